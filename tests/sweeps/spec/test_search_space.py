"""The space of a search: from a study file to Optuna's distributions."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest

from inversion.config.run_config import RunConfig
from inversion.sweeps.spec.search_section import MAX_COMBINATIONS, NOT_SEARCHED
from tests.sweeps.spec.searches import search, wrong


def test_a_space_becomes_optunas_distributions_by_the_parameters_types() -> None:
    found = search("{decoder: [wavelet, attention], lr: {low: 1e-5, high: 1e-2, log: on}, batch_size: [4, 8], "
                   "mse_weight: {low: 0, high: 1, step: 0.1}, epochs: {low: 2, high: 8, step: 3}, "
                   "patience: {type: int, low: 1, high: 4, log: true}, "
                   "lr_factor: {type: float, low: 0.1, high: 0.9, step: 0.2}, "
                   "lpips_weight: {type: int, low: 1, high: 3}, precision: {type: categorical, choices: [fp32, bf16]}}")
    assert found.distributions() == {
        "decoder": optuna.distributions.CategoricalDistribution(["wavelet", "attention"]),
        "lr": optuna.distributions.FloatDistribution(1e-5, 1e-2, log=True),
        "batch_size": optuna.distributions.CategoricalDistribution(["4", "8"]),
        "mse_weight": optuna.distributions.FloatDistribution(0, 1, step=0.1),
        "epochs": optuna.distributions.IntDistribution(2, 8, step=3),
        "patience": optuna.distributions.IntDistribution(1, 4, log=True),
        "lr_factor": optuna.distributions.FloatDistribution(0.1, 0.9, step=0.2),
        "lpips_weight": optuna.distributions.IntDistribution(1, 3),
        "precision": optuna.distributions.CategoricalDistribution(["fp32", "bf16"]),
    }
    assert list(found.distributions()) == sorted(found.space)


@pytest.mark.parametrize(("space", "line"), [
    ("{}", "space is a mapping of parameters"),
    ("[lr]", "space is a mapping of parameters"),
    ("{rl: [1, 2]}", "unknown parameter 'rl'. Known: "),
    ("{decoder: wavelet}", "decoder: expected a list of choices or a range {low: …, high: …}; a parameter with one "
                           "value belongs in base"),
    ("{lr: }", "lr: expected a list of choices or a range"),
    ("{lr: {}}", "lr: expected a list of choices or a range"),
    ("{decoder: []}", "decoder: choices are a list of one or more values"),
    ("{decoder: {choices: wavelet}}", "decoder: choices are a list of one or more values"),
    ("{decoder: [wavelet, wavlet]}", "unknown decoder 'wavlet'. Known: "),
    ("{encoder: [vgg16, 'vgg16:blok1']}", "vgg16 has no layer 'blok1'."),
    ("{decoder: [wavelet, wavelet]}", "decoder: wavelet is listed twice"),
    ("{batch_size: [4, 04]}", "batch_size: 04 is listed twice"),
    ("{batch_size: [4, 0]}", "batch_size: '0' is not allowed"),
    ("{decoder: [wavelet, ]}", None),
    ("{decoder: [wavelet, '']}", "decoder has no value: leave it out"),
    ("{decoder: [[wavelet]]}", "decoder: a choice is a text or a number"),
    ("{decoder: {type: float, choices: [wavelet]}}", "decoder: choices go with type: categorical and with"),
    ("{decoder: {low: 1, choices: [wavelet]}}", "decoder: choices go with type: categorical and with"),
    ("{decoder: {low: 1, high: 2}}", "decoder is a text: give a list of choices"),
    ("{lr: {low: 1e-3}}", "the range of lr needs high"),
    ("{lr: {low: 1e-3, hihg: 1e-2, high: 1}}", "the range of lr has no option 'hihg'. Known: type, low"),
    ("{lr: {low: 1e-3, high: 1e-2, type: int}}", "lr: low, high and step of type int are whole numbers"),
    ("{lr: {low: 1e-3, high: 1e-2, type: flaot}}", "lr: a range is of type float or int, not 'flaot'"),
    ("{lr: {low: 1e-3, high: 1e-2, type: categorical}}", "lr: a range is of type float or int, not 'categorical'"),
    ("{epochs: {low: 1, high: 2, type: float}}", "epochs is a whole number: its range cannot be of type float"),
    ("{epochs: {low: 1, high: 2.5}}", "epochs: '2.5' is not allowed. Allowed: a whole number, 1 or more."),
    ("{epochs: {low: 0, high: 2}}", "epochs: '0' is not allowed."),
    ("{epochs: {low: 1, high: 4, step: 1.5}}", "epochs: low, high and step of type int are whole numbers"),
    ("{lr_factor: {low: 0.5, high: 1}}", "lr_factor: '1' is not allowed."),
    ("{lr: {low: 0, high: 1}}", "lr: '0' is not allowed."),
    ("{lr: {low: nan, high: 1}}", "lr: 'nan' is not allowed."),
    ("{lr: {low: 1, high: inf}}", "lr: 'inf' is not allowed."),
    ("{lr: {low: 1e-2, high: 1e-2}}", "lr: low 1e-2 is not below high 1e-2"),
    ("{mse_weight: {low: 0, high: 1, log: true}}", "mse_weight: low of a logarithmic range must be above 0, and is 0"),
    ("{mse_weight: {low: 0.1, high: 1, log: true, step: 0.1}}",
     "the range of mse_weight: log and step exclude each other"),
    ("{mse_weight: {low: 0.1, high: 1, step: 0}}", "step: '0' is not allowed."),
    ("{mse_weight: {low: 0.1, high: 1, step: 0.2}}", "mse_weight: steps of 0.2 from 0.1 do not end at 1"),
    ("{mse_weight: {low: 0.1, high: 1, step: 1e-400}}", "mse_weight: steps of 1E-400 from 0.1 do not end at 1"),
    ("{epochs: {low: 1, high: 9, step: 1e400}}", "epochs: steps of 1E+400 from 1 do not end at 9"),
    ("{mse_weight: {low: 0.1, high: 1, log: maybe}}", "log: 'maybe' is not allowed."),
    ("{lr: {low: 1e-8, high: 1}}", "min_lr 1e-06 is above lr 1e-08"),
    ("{min_lr: {low: 1e-6, high: 1e-2}}", "min_lr 0.01 is above lr 0.0001"),
    ("{fusion: [weighted, none]}", "fusion=weighted needs two encoders or more"),
    ("{mse_weight: [0, 1], lpips_weight: [0, 1]}", "mse_weight and lpips_weight are both 0"),
])
def test_a_space_that_is_wrong_is_reported_with_its_line(space: str, line: str | None) -> None:
    if line is None:
        assert search(space)
        return
    found, = wrong(space)
    assert found.startswith(f"s.yaml:5: {line}")


VALUES = {
    "encoder": "[vgg16, resnet34]", "layer": "[block1, block2]", "decoder": "[wavelet, attention]",
    "fusion": "[none, auto]", "precision": "[fp32, bf16]", "decoder_options": "[auto, wavelet=db2]",
    "fusion_options": "[auto, design=published]", "schedule": "[plateau, cosine]",
    "crops": "[random, fixed:8]", "loss": "[none, own.py:loss]",
    "lr_factor": "{low: 0.1, high: 0.9}", "min_lr": "{low: 0, high: 1e-5}",
}
"""What some parameters could be; a range of numbers for the others."""


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_a_parameter_is_searched_or_refused_with_the_reason(
        name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text("def loss(images, targets): ...\n")
    space = f"{{{name}: {VALUES.get(name, '{low: 1, high: 2}')}}}"
    base = {"decoder_options": "{decoder: wavelet}", "fusion_options": "{encoder: ensemble}",
            "loss_weight": "{loss: 'own.py:loss'}"}.get(name, "{}")
    if name in NOT_SEARCHED:
        assert wrong(space, base) == [f"s.yaml:5: {name} cannot be searched: {NOT_SEARCHED[name]}"]
    else:
        assert list(search(space, base).space) == [name]


def test_what_makes_scores_incomparable_or_changes_none_is_not_searched() -> None:
    assert set(NOT_SEARCHED) == {"protocol", "data", "image_size", "weights", "lpips_weights", "val_limit",
                                 "test_limit", "vgg_weights", "metrics", "seed", "data_dir", "device", "threads",
                                 "strict"}


def test_a_parameter_is_in_the_base_or_in_the_space() -> None:
    line, = wrong("{lr: {low: 1e-4, high: 1e-3}}", base="{lr: 1e-3}")
    assert line == "s.yaml:5: lr has one value already, at s.yaml:2: a parameter is in base or in the space"


def test_a_list_in_the_base_is_refused() -> None:
    line, = wrong(base="{epochs: [1, 2]}")
    assert line.startswith("s.yaml:2: epochs: base has one value for each parameter.")


def test_combinations_that_do_not_go_together_are_found_among_many() -> None:
    """One pair in a space of more combinations than are tried one by one."""
    many = "lr: [1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3], epochs: [1, 2, 3, 4, 5, 6, 7, 8], " \
           "batch_size: [1, 2, 3, 4, 5, 6, 7, 8], patience: [1, 2, 3, 4, 5, 6, 7, 8]"
    assert MAX_COMBINATIONS < 2 * 8**4
    encoders = "encoder: [ensemble, vgg16+resnet34, vgg16]"
    assert search(f"{{{encoders}, {many}}}")
    line, = wrong(f"{{{encoders}, fusion: [auto, concat], {many}}}")
    assert line.startswith("s.yaml:5: fusion=concat needs two encoders or more, and encoder=vgg16 is one")


def test_of_many_wrong_combinations_the_first_are_reported() -> None:
    lines = wrong("{fusion: [weighted, attention, concat], encoder: [vgg16, resnet34, vit_small]}")
    assert len(lines) == 6
    assert lines[-1] == "s.yaml:5: 4 more combinations are wrong in the same way"
