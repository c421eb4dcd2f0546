"""Parameters: defaults, types, ranges, and one line that says what was wrong."""

from __future__ import annotations

import pytest

from inversion.config.run_config import RunConfig, allowed_values, parse_config, parse_options, parse_value
from inversion.errors import RequestError, UnknownNameError

NAMES = list(RunConfig.model_fields)


def test_no_values_are_the_defaults_of_the_study() -> None:
    config = parse_config({})
    assert (config.epochs, config.batch_size, config.lr, config.patience) == (30, 4, 1e-4, 15)
    assert (config.lr_patience, config.lr_factor, config.min_lr) == (5, 0.5, 1e-6)
    assert (config.mse_weight, config.lpips_weight, config.image_size) == (0.5, 0.5, 224)
    assert (config.protocol, config.strict) == ("image", False)


@pytest.mark.parametrize("name", NAMES)
def test_every_default_is_valid_as_a_value_as_a_text_and_as_an_empty_text(name: str) -> None:
    default = RunConfig.model_fields[name].default
    for value in (default, str(default), "", "  "):
        assert getattr(parse_config({name: value}), name) == default


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_described_and_says_what_it_may_be(name: str) -> None:
    assert RunConfig.model_fields[name].description
    assert allowed_values(name)
    assert "{" not in allowed_values(name)


WRONG = [
    ("protocol", "publised", "image, published", "published"),
    ("precision", "fp16", "auto, fp32, bf16", "bf16"),
    ("image_size", "100", "a whole number, 32 or more, at most 1024, a multiple of 32", None),
    ("image_size", "0", "32 or more", None),
    ("image_size", "1056", "at most 1024", None),
    ("epochs", "0", "a whole number, 1 or more", None),
    ("epochs", "2.5", "a whole number, 1 or more", None),
    ("epochs", "many", "a whole number, 1 or more", None),
    ("batch_size", "-1", "a whole number, 1 or more", None),
    ("crops", "fixed", "random: crops drawn anew in every epoch; fixed:K, K from 1 to 9999", None),
    ("crops", "fixed:10000", "fixed:K, K from 1 to 9999", None),
    ("crops", "fixed:0", "random: crops drawn anew in every epoch; fixed:K, K from 1 to 9999", None),
    ("crops", "fixed:2.5", "random: crops drawn anew in every epoch; fixed:K, K from 1 to 9999", None),
    ("lr", "0", "a number, above 0", None),
    ("lr", "nan", "a number, above 0", None),
    ("lr", "inf", "a number, above 0", None),
    ("loss_weight", "-1", "a number, 0 or more", None),
    ("schedule", "linear", "plateau, cosine", None),
    ("schedule", "cosin", "plateau, cosine", "cosine"),
    ("clip_norm", "-1", "a number, 0 or more", None),
    ("lr_patience", "-1", "a whole number, 0 or more", None),
    ("lr_factor", "1", "a number, above 0, below 1", None),
    ("lr_factor", "nan", "a number, above 0, below 1", None),
    ("min_lr", "-1e-6", "a number, 0 or more", None),
    ("patience", "0", "a whole number, 1 or more", None),
    ("mse_weight", "-0.5", "a number, 0 or more", None),
    ("lpips_weight", "inf", "a number, 0 or more", None),
    ("train_limit", "-1", "a whole number, 0 or more", None),
    ("val_limit", "x", "a whole number, 0 or more", None),
    ("test_limit", "1.5", "a whole number, 0 or more", None),
    ("seed", "-1", "a whole number, 0 or more, below 2147483648", None),
    ("seed", str(2**31), "below 2147483648", None),
    ("device", "gpu", "cpu, cuda or cuda:N", None),
    ("device", "cuda:", "cpu, cuda or cuda:N", None),
    ("device", "cuda:-1", "cpu, cuda or cuda:N", None),
    ("device", "cuda:²", "cpu, cuda or cuda:N", None),
    ("device", "cuda:01", "cpu, cuda or cuda:N", None),
    ("device", "cuda:" + "9" * 5000, "cpu, cuda or cuda:N", None),
    ("threads", "-2", "a whole number, 0 or more", None),
    ("threads", "99999999999", "a whole number, 0 or more, at most 1024", None),
    *((name, "99999999999999999999", "at most 1000000000", None) for name in (
        "epochs", "batch_size", "lr_patience", "patience", "train_limit", "val_limit", "test_limit")),
    ("lr", "1e-400", "a number, above 0", None),
    ("epochs", "9" * 5000, "a whole number, 1 or more", None),
    ("strict", "perhaps", "true or false", None),
    ("encoder", 5, "vgg16:block1", None),
    ("decoder", None, "decoder", None),
    ("data", ["a"], "div2k, sample, a folder", None),
    ("protocol", "image\nx", "image, published", "image"),
]


@pytest.mark.parametrize(("name", "value", "allowed", "nearest"), WRONG)
def test_a_wrong_value_is_one_line_with_the_parameter_the_value_and_what_is_allowed(
        name: str, value: object, allowed: str, nearest: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        parse_config({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}: {str(value)!r} is not allowed. Allowed: ")
    assert allowed in message
    assert "\n" not in message
    assert message.endswith(f"Did you mean {nearest!r}?") == (nearest is not None)


def test_every_parameter_with_a_range_or_choices_is_tried_with_a_wrong_value() -> None:
    free_texts = {name for name in NAMES if RunConfig.model_fields[name].annotation is str} - {"device"}
    assert {case[0] for case in WRONG} | free_texts == set(NAMES)


def test_several_wrong_values_are_all_told_in_one_line() -> None:
    with pytest.raises(RequestError, match=r"^epochs: '0' is not allowed.*; lr: '-1' is not allowed") as caught:
        parse_config({"epochs": "0", "lr": "-1"})
    assert "\n" not in str(caught.value)


def test_an_unknown_parameter_is_named_with_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown parameter 'batchsize'\. Known: encoder, .*"
                                               r"Did you mean 'batch_size'\?$"):
        parse_config({"batchsize": "4"})


def test_both_loss_weights_zero_leave_nothing_to_train_for() -> None:
    with pytest.raises(RequestError, match="mse_weight and lpips_weight are both 0"):
        parse_config({"mse_weight": 0, "lpips_weight": "0"})


def test_a_floor_of_the_rate_above_the_rate_is_refused() -> None:
    with pytest.raises(RequestError, match=r"min_lr 0\.001 is above lr 0\.0001"):
        parse_config({"min_lr": "1e-3"})


def test_texts_are_read_as_numbers_and_booleans_and_stripped() -> None:
    config = parse_config({"lr": "2e-4", "seed": "7", "strict": "yes", "encoder": " vgg16:block3 "})
    assert (config.lr, config.seed, config.strict, config.encoder) == (2e-4, 7, True, "vgg16:block3")


def test_one_value_is_checked_without_looking_at_the_others() -> None:
    assert parse_value("min_lr", "1e-3") == 1e-3  # above the default of lr
    assert parse_value("lpips_weight", "0") == 0
    assert parse_value("strict", "yes") is True
    with pytest.raises(RequestError, match=r"^epochs: '0' is not allowed"):
        parse_value("epochs", "0")
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        parse_value("epoch", "3")


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_auto_the_cpu_or_cuda_with_or_without_a_number(device: str) -> None:
    assert parse_config({"device": device}).device == device


def test_a_configuration_written_as_json_reads_back_equal() -> None:
    config = parse_config({"lr": "3e-4", "protocol": "published", "decoder_options": "wavelet=db2"})
    assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(("text", "options"), [
    ("auto", {}), ("", {}), ("depth=4", {"depth": "4"}),
    (" depth = 4 , heads=2,", {"depth": "4", "heads": "2"}), ("a=b=c", {"a": "b=c"}),
])
def test_decoder_options_are_names_and_values(text: str, options: dict[str, str]) -> None:
    assert parse_options(text) == options


@pytest.mark.parametrize("text", ["depth", "depth=", "=4", "depth=4,heads", "depth 4"])
def test_decoder_options_of_another_form_are_refused(text: str) -> None:
    with pytest.raises(RequestError, match="is not of the form name=value"):
        parse_options(text)


def test_a_decoder_option_is_given_once() -> None:
    with pytest.raises(RequestError, match="depth is given twice"):
        parse_options("depth=4,depth=5")
