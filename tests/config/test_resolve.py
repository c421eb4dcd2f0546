"""Resolution of a request to a plan: names, fallbacks, the digest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inversion.config import resolve as module
from inversion.config.device import choose_precision
from inversion.config.resolve import Fallback, check, default_threads, resolve, run_name
from inversion.config.run_config import RunConfig, parse_config
from inversion.errors import DataError, RequestError, UnknownNameError, WeightsError
from inversion.losses.lpips_weights import TrunkSource
from inversion.models.encoders import ENSEMBLE
from inversion.models.encoders.imagenet import require_imagenet
from tests.config.plans import STUDY, plan

pytestmark = pytest.mark.usefixtures("world")

Offline = Callable[..., None]


def checked(**values: Any) -> RunConfig:
    return check(parse_config(values))


# names

@pytest.mark.parametrize(("given", "encoder", "layer", "fusion"), [
    ({}, "vgg16:block1", "block1", "none"),
    ({"encoder": "resnet34", "layer": "layer3"}, "resnet34:layer3", "layer3", "none"),
    ({"encoder": "vgg16:block3", "fusion": "none"}, "vgg16:block3", "block3", "none"),
    ({"encoder": "vit_small+pvt_v2_b2:stage2"}, "vit_small:block1+pvt_v2_b2:stage2", "none", "weighted"),
    ({"encoder": "ensemble", "fusion": "concat"}, "+".join(map(str, ENSEMBLE)), "none", "concat"),
])
def test_short_requests_become_full_names(given: dict[str, str], encoder: str, layer: str, fusion: str) -> None:
    config = checked(**given)
    assert (config.encoder, config.layer, config.fusion) == (encoder, layer, fusion)


@pytest.mark.parametrize("request_", STUDY, ids=lambda values: "+".join(values.values()))
def test_a_checked_configuration_is_left_as_it_is(request_: dict[str, str]) -> None:
    config = checked(**request_)
    assert check(config) == config


@pytest.mark.parametrize(("given", "message"), [
    ({"encoder": "vgg61"}, r"^unknown encoder 'vgg61'\. Known: vgg16, .* Did you mean 'vgg16'\?$"),
    ({"encoder": "vgg16:blok1"}, r"^vgg16 has no layer 'blok1'\. Known: block1, .*block5\. Did you mean 'block1'\?$"),
    ({"layer": "layer1"}, r"^vgg16 has no layer 'layer1'\. Known: block1"),
    ({"layer": "none"}, r"^vgg16 has no layer 'none'"),
    ({"encoder": "vgg16:block1", "layer": "block2"}, r"^layer 'block2' beside encoder 'vgg16:block1'"),
    ({"encoder": "vgg16+resnet34", "layer": "block1"}, r"^layer 'block1' beside encoder 'vgg16\+resnet34'"),
    ({"encoder": "vgg16+vgg16:block1"}, r"vgg16:block1 is there twice$"),
    ({"encoder": "vgg16+"}, r"a name is missing"),
    ({"decoder": "wavelets"}, r"^unknown decoder 'wavelets'\. Known: attention, .* Did you mean 'wavelet'\?$"),
    ({"encoder": "ensemble", "fusion": "wighted"}, r"^unknown fusion 'wighted'\..* Did you mean 'weighted'\?$"),
    ({"encoder": "ensemble", "fusion": "none"}, r"^unknown fusion 'none'"),
    ({"fusion": "weighted"}, r"^fusion=weighted needs two encoders or more, and encoder=vgg16 is one\."),
    ({"decoder": "wavelet", "decoder_options": "wavlet=haar"},
     r"^decoder_options: decoder 'wavelet' has no option 'wavlet'\. Known: design, .*\. Did you mean 'wavelet'\?$"),
    ({"decoder_options": "heads=4"}, r"^decoder_options: decoder 'transposed_conv' has no option 'heads'\. Known: w"),
    ({"fusion_options": "design=published"}, r"^fusion_options=design=published needs a fusion, so two encoders or "),
    ({"encoder": "ensemble", "fusion_options": "desing=published"},
     r"^fusion_options: fusion 'weighted' has no option 'desing'\. Known: design\. Did you mean 'design'\?$"),
    ({"encoder": "ensemble", "fusion_options": "design"}, r"^fusion_options: 'design' is not of the form name=value"),
    ({"decoder": "attention", "decoder_options": "depth=0"}, r"^decoder_options: depth=0 of decoder 'attention': "),
    ({"decoder": "wavelet", "decoder_options": "wavelet=morl"}, r"^decoder_options: wavelet=morl of decoder 'wavelet'"),
    ({"decoder": "frequency_aware", "decoder_options": "block=7"}, r"block=7 of decoder 'frequency_aware'.*4, 8, 16"),
])
def test_names_that_are_unknown_or_do_not_go_together_are_refused_in_one_line(
        given: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        checked(**given)
    assert "\n" not in str(caught.value)


def test_decoder_options_have_one_spelling() -> None:
    one = checked(decoder="attention", decoder_options=" heads=2, depth=4")
    assert one.decoder_options == "depth=4,heads=2"
    assert one == checked(decoder="attention", decoder_options="depth=4,heads=2")


def test_the_studys_44_combinations_are_checked_without_importing_pytorch() -> None:
    assert len(STUDY) == 44
    code = (
        "import sys, json\n"
        "from inversion.config.run_config import parse_config\n"
        "from inversion.config.resolve import check\n"
        "for values in json.load(sys.stdin): check(parse_config(values))\n"
        "heavy = {'torch', 'torchvision', 'timm', 'mlflow', 'lpips'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(STUDY), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


# what auto becomes

def test_what_auto_has_to_do_without_is_named_with_its_remedy(tmp_path: Path) -> None:
    result = resolve(parse_config({}))
    assert (result.config.data, result.config.weights, result.config.lpips_weights) == ("sample", "random", "off")
    assert result.config.lpips_weight == 0
    assert [fallback.short for fallback in result.fallbacks] == ["sample photographs", "random weights", "no LPIPS"]
    assert "inversion data div2k" in result.fallbacks[0].remedy
    assert "weights=FILE" in result.fallbacks[1].remedy
    assert "vgg16" in result.fallbacks[1].remedy
    assert "lpips_weights=FILE" in result.fallbacks[2].remedy
    assert result.lpips is None
    assert result.weights["vgg16"].kind == "random"
    assert result.data_dir == tmp_path / "data"


@pytest.mark.parametrize("status", ["cached", "downloadable"])
def test_auto_is_the_real_thing_where_it_can_be_had(world: Offline, status: str) -> None:
    world(encoders=status, alexnet=True)
    result = resolve(parse_config({"data": "sample"}))
    assert (result.config.weights, result.config.lpips_weights) == ("imagenet", "imagenet")
    assert result.config.lpips_weight == 0.5
    assert result.lpips == TrunkSource()
    assert result.fallbacks == []


def test_one_encoder_out_of_reach_makes_all_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "imagenet_status",
                        lambda cut: "unreachable" if cut.encoder == "vit_small" else "cached")
    result = resolve(parse_config({"encoder": "ensemble", "data": "sample", "lpips_weights": "off"}))
    assert {source.kind for source in result.weights.values()} == {"random"}
    assert [fallback.short for fallback in result.fallbacks] == ["random weights"]
    assert "of vit_small are" in result.fallbacks[0].remedy


@pytest.mark.parametrize(("given", "message"), [
    ({"weights": "random", "lpips_weights": "off"}, r"^strict=true refuses sample photographs \(get DIV2K with: "),
    ({"data": "sample", "lpips_weights": "off"}, r"^strict=true refuses random weights \(ImageNet weights of vgg16 .*"
                                                 r"connect once, or give weights=FILE\)$"),
    ({"data": "sample", "weights": "random"}, r"^strict=true refuses no LPIPS \(AlexNet's weights .*"
                                              r"or give lpips_weights=FILE\)$"),
    ({}, r"refuses sample photographs \(.*\); random weights \(.*\); no LPIPS \(.*\)$"),
])
def test_strict_refuses_each_fallback_with_its_remedy(given: dict[str, str], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        resolve(parse_config(given | {"strict": True}))
    assert resolve(parse_config(given)).fallbacks


def test_what_was_asked_for_by_name_is_no_fallback() -> None:
    assert plan(strict=True).fallbacks == []


def test_without_lpips_and_without_mse_there_is_nothing_to_train_for() -> None:
    with pytest.raises(RequestError, match=r"mse_weight is 0 and LPIPS is off.*lpips_weights=FILE"):
        plan(mse_weight=0)


def test_a_loss_without_lpips_does_not_miss_it() -> None:
    result = resolve(parse_config({"data": "sample", "weights": "random", "lpips_weight": 0, "strict": True}))
    assert result.fallbacks == []


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"data": "smaple"}, UnknownNameError, "no folder .* Did you mean 'sample'"),
    ({"data": "div2k"}, DataError, "div2k"),
    ({"weights": "imagnet"}, WeightsError, "Did you mean 'imagenet'"),
    ({"weights": "imagenet"}, WeightsError, "ImageNet weights of vgg16 .* server is unreachable"),
    ({"lpips_weights": "nowhere.pth"}, WeightsError, "lpips_weights: no such file as 'nowhere.pth'"),
    ({"device": "cuda:99"}, RequestError, "device=cuda:99: (PyTorch finds no|this machine has only)"),
])
def test_what_is_not_there_is_refused_by_name(
        given: dict[str, str], error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.models.encoders.imagenet.imagenet_status", lambda cut: "unreachable")
    monkeypatch.setattr(module, "require_imagenet", require_imagenet)
    with pytest.raises(error, match=message):
        plan(**given)


def test_device_precision_and_threads_are_resolved_to_what_is_used() -> None:
    config = plan(device="cpu", threads=1).config
    assert (config.device, config.precision, config.threads) == ("cpu", choose_precision("auto", "cpu"), 1)
    assert plan(device="cpu").config.threads >= 1
    assert plan(device="cpu", precision="bf16").config.precision == "bf16"


def test_planning_computes_the_number_of_threads_and_sets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 5)
    before = torch.get_num_threads()
    assert [plan(device="cpu", threads=threads).config.threads for threads in (0, 3)] == [5, 3]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 1, 8), (8, 3, 2), (2, 4, 1), (2048, 1, 1024)])
def test_workers_share_the_cores_and_a_default_is_one_that_could_be_given(
        cores: int, workers: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    assert default_threads(workers) == parse_config({"threads": default_threads(workers)}).threads == threads


@pytest.mark.parametrize("given", [
    {}, {"encoder": "ensemble", "decoder": "wavelet", "decoder_options": "wavelet=db2"}, {"weights": "random:7"},
    {"encoder": "resnet34", "layer": "layer2", "protocol": "published", "lr": "3e-4", "device": "cpu"},
])
def test_a_resolved_configuration_resolves_to_itself(given: dict[str, str]) -> None:
    once = resolve(parse_config(given))
    again = resolve(parse_config(json.loads(json.dumps(once.config.model_dump()))))
    assert again.config == once.config
    assert again.digest("photographs") == once.digest("photographs")
    assert again.weights == once.weights


# the name

@pytest.mark.parametrize(("given", "fallbacks", "name"), [
    ({}, [], "vgg16:block1+transposed_conv"),
    ({"decoder": "wavelet", "seed": 3}, [], "vgg16:block1+wavelet seed=3"),
    ({"encoder": "ensemble", "fusion": "concat"}, [], "ensemble+concat+transposed_conv"),
    ({"encoder": "vgg16+resnet34"}, [], "vgg16:block1+resnet34:layer1+weighted+transposed_conv"),
    ({"seed": 1}, ["sample photographs", "random weights"],
     "vgg16:block1+transposed_conv seed=1 (sample photographs, random weights)"),
])
def test_a_runs_name_has_the_seed_and_the_fallbacks_where_they_matter(
        given: dict[str, Any], fallbacks: list[str], name: str) -> None:
    assert run_name(checked(**given), [Fallback(short, "") for short in fallbacks]) == name


def test_files_of_weights_are_named_so_that_every_folder_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.pth", "b.pth"):
        torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    single = resolve(parse_config({"data": "sample", "weights": "a.pth", "lpips_weights": "off"}))
    several = resolve(parse_config({"encoder": "vgg16+resnet34", "data": "sample", "lpips_weights": "off",
                                    "weights": "vgg16=a.pth,resnet34=b.pth"}))
    assert single.config.weights == str(tmp_path / "a.pth")
    assert several.config.weights == f"vgg16={tmp_path / 'a.pth'},resnet34={tmp_path / 'b.pth'}"


def test_a_resumed_run_keeps_the_fallbacks_it_was_begun_with() -> None:
    begun = [Fallback("sample photographs", "get DIV2K")]
    plan = resolve(parse_config({"data": "sample", "weights": "random", "lpips_weights": "off"}), inherited=begun)
    assert plan.name == "vgg16:block1+transposed_conv (sample photographs)"
