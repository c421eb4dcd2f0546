"""Searches: what may be optimised and searched, what Optuna is given, and that equal history suggests equal values."""

from __future__ import annotations

import importlib.util
import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from inversion.config.run_config import RunConfig
from inversion.errors import RequestError, SeveralErrors
from inversion.sweeps.spec.search import METRICS, PRUNERS, SAMPLERS, Search
from inversion.sweeps.spec.search_section import MAX_COMBINATIONS, NOT_SEARCHED, options_of
from inversion.sweeps.spec.spec import Spec, load_spec

NUMBERS = "{lr: {low: 1e-5, high: 1e-2, log: true}, mse_weight: {low: 0.1, high: 1}}"
MIXED = "{decoder: [wavelet, attention], lr: {low: 1e-5, high: 1e-2, log: true}, batch_size: {low: 2, high: 8}}"


def load(space: str = MIXED, base: str = "{}", **settings: str) -> Spec:
    """A search with its space in line 5, and each other setting in a line of its own after it, trials first."""
    lines = [f"  {name}: {value}" for name, value in ({"trials": "3"} | settings).items()]
    text = f"study: s\nbase: {base}\n\nsearch:\n  space: {space}\n" + "\n".join(lines)
    Path("s.yaml").write_text(text)
    return load_spec("s.yaml")


def search(space: str = MIXED, base: str = "{}", **settings: str) -> Search:
    found = load(space, base, **settings).search
    assert found is not None
    return found


def wrong(space: str = MIXED, base: str = "{}", **settings: str) -> list[str]:
    with pytest.raises(SeveralErrors) as caught:
        load(space, base, **settings)
    return caught.value.lines


def test_a_search_has_no_configurations_and_the_defaults_of_a_simple_one() -> None:
    spec = load()
    assert spec.configurations == ()
    assert spec.base == {"strict": "true"}
    found = spec.search
    assert found is not None
    assert (found.metric, found.direction, found.trials, found.seed) == ("best/val_psnr", "maximize", 3, 0)
    assert (found.sampler.name, found.sampler.options, found.pruner.name) == ("tpe", {}, "none")


# what is optimised

@pytest.mark.parametrize(("metric", "reported"), [
    ("best/val_psnr", "val/psnr"), ("best/val_loss", "val/loss"), ("val/loss", "val/loss"), ("val/mse", "val/mse"),
    ("val/lpips", "val/lpips"), ("val/psnr", "val/psnr"), ("val/ssim", "val/ssim"),
])
def test_the_pruner_sees_the_metric_by_epoch_that_belongs_to_the_optimised_one(metric: str, reported: str) -> None:
    found = search(metric=metric)
    assert found.reported_metric() == reported
    assert found.direction == METRICS[metric] == METRICS[reported]
    assert (found.direction == "maximize") == metric.endswith(("psnr", "ssim"))
    assert search(metric=metric, direction=found.direction) == found


def test_every_metric_is_tried() -> None:
    assert len(METRICS) == 7


@pytest.mark.parametrize(("metric", "beginning"), [
    ("test/psnr", "metric: a search must not see the test images, so test/psnr cannot be optimised."),
    ("test/lpips_std", "metric: a search must not see the test images"),
    ("train/loss", "metric: train/loss is measured on the training images."),
    ("val/pnsr", "metric: unknown validation metric 'val/pnsr'. Known: best/val_psnr, "),
    ("best_epoch", "metric: unknown validation metric"),
    ("[val/psnr]", "metric: expected a single value, got a list"),
])
def test_other_metrics_are_refused_with_the_reason(metric: str, beginning: str) -> None:
    line, = wrong(metric=metric)
    assert line.startswith(f"s.yaml:7: {beginning}")


def test_a_metric_that_is_nearly_right_is_reported() -> None:
    assert wrong(metric="best/val_pnsr")[0].endswith("Did you mean 'best/val_psnr'?")


@pytest.mark.parametrize("metric", METRICS)
def test_a_direction_that_disagrees_with_the_metric_is_refused(metric: str) -> None:
    other = {"maximize": "minimize", "minimize": "maximize"}[METRICS[metric]]
    for direction in (other, "up"):
        assert wrong(metric=metric, direction=direction) == [
            f"s.yaml:8: direction: the direction of {metric} is {METRICS[metric]}; leave direction out"]


def test_lpips_that_is_off_is_neither_optimised_nor_weighed() -> None:
    assert wrong(metric="val/lpips", base="{lpips_weights: off}") == [
        "s.yaml:7: metric: val/lpips is not measured with lpips_weights=off"]
    line, = wrong("{lpips_weight: {low: 0, high: 1}}", base="{lpips_weights: off}")
    assert line == "s.yaml:5: lpips_weight has no effect with lpips_weights=off"
    assert search(metric="val/lpips", base="{lpips_weights: imagenet}")


@pytest.mark.parametrize("metric", ["best/val_loss", "val/loss"])
def test_a_loss_whose_weights_vary_cannot_be_optimised(metric: str) -> None:
    line, = wrong(NUMBERS, metric=metric)
    assert line.startswith(f"s.yaml:7: metric: {metric} is not comparable between trials when mse_weight may vary")
    assert search(NUMBERS, metric="val/mse")


# the plain settings

@pytest.mark.parametrize(("settings", "line"), [
    ({"trials": "0"}, "s.yaml:6: trials: '0' is not allowed. Input should be greater than or equal to 1."),
    ({"trials": "100001"}, "s.yaml:6: trials: '100001' is not allowed. Input should be less than or equal to 100000."),
    ({"trials": "many"}, "s.yaml:6: trials: 'many' is not allowed. "),
    ({"trials": ""}, "s.yaml:6: trials: expected a single value, got nothing"),
    ({"seed": "-1"}, "s.yaml:7: seed: '-1' is not allowed."),
    ({"tirals": "3"}, "s.yaml:7: search has no 'tirals'. Known: metric, direction, trials, seed, sampler, pruner, "
                      "space. Did you mean 'trials'?"),
    ({"sampler": "tpee"}, "s.yaml:7: unknown sampler 'tpee'. Known: tpe, random, gp, cmaes. Did you mean 'tpe'?"),
    ({"sampler": "[tpe]"}, "s.yaml:7: sampler: expected a single value, got a list"),
    ({"sampler": "{n_startup_trials: 3}"}, "s.yaml:7: sampler: the name is missing, as in {name: tpe}"),
    ({"sampler": "{name: tpe, n_startup: 3}"}, "s.yaml:7: sampler tpe has no option 'n_startup'. Known: "),
    ({"sampler": "{name: tpe, seed: 3}"}, "s.yaml:7: sampler tpe has no option 'seed'."),
    ({"sampler": "{name: random, n_startup_trials: 3}"}, "s.yaml:7: sampler random has no option 'n_startup_trials'"),
    ({"sampler": "{name: tpe, n_startup_trials: -1}"}, "s.yaml:7: n_startup_trials: '-1' is not allowed."),
    ({"sampler": "{name: tpe, multivariate: perhaps}"}, "s.yaml:7: multivariate: 'perhaps' is not allowed."),
    ({"sampler": "{name: tpe, multivariate: [yes]}"}, "s.yaml:7: multivariate: expected a single value, got a list"),
    ({"sampler": "{name: tpe, group: yes}"}, "s.yaml:7: sampler tpe: group: true needs multivariate: true"),
    ({"pruner": "hyperbnd"}, "s.yaml:7: unknown pruner 'hyperbnd'. Known: none, median, hyperband. Did you mean"),
    ({"pruner": "{name: median, n_warmup: 3}"}, "s.yaml:7: pruner median has no option 'n_warmup'. Known: "),
    ({"pruner": "{name: hyperband, reduction_factor: 1}"}, "s.yaml:7: reduction_factor: '1' is not allowed."),
    ({"pruner": "{name: hyperband, min_resource: 31}"}, "s.yaml:7: min_resource 31 is above max_resource 30 (epochs)"),
])
def test_a_setting_that_is_wrong_is_reported_with_its_line(settings: dict[str, str], line: str) -> None:
    found, = wrong(**settings)
    assert found.startswith(line)


def test_a_search_needs_trials_and_a_space() -> None:
    Path("s.yaml").write_text("study: s\nsearch:\n  seed: 1")
    with pytest.raises(SeveralErrors) as caught:
        load_spec("s.yaml")
    needs, space = caught.value.lines
    assert needs == "s.yaml:3: search needs trials"
    assert space.startswith("s.yaml:3: space is a mapping of parameters to choices or ranges, as in ")


@pytest.mark.parametrize("text", ["search: 3", "search: []", "search:"])
def test_a_search_is_a_mapping(text: str) -> None:
    Path("s.yaml").write_text(f"study: s\n{text}")
    with pytest.raises(SeveralErrors, match=r"^s\.yaml:2: search is a mapping of metric, direction, trials, "):
        load_spec("s.yaml")


def test_a_grid_beside_a_search_is_refused() -> None:
    Path("s.yaml").write_text(f"study: s\ngrid: [{{seed: 1}}]\nsearch: {{trials: 3, space: {MIXED}}}")
    with pytest.raises(SeveralErrors, match=r"^s\.yaml:3: a spec has a grid \(at s\.yaml:2\) or a search, not both$"):
        load_spec("s.yaml")


def test_all_that_is_wrong_in_a_search_is_reported_at_once() -> None:
    lines = wrong("{lr: {low: 2, high: 1}, seed: [1, 2]}", trials="x", metric="test/psnr", sampler="a", pruner="b")
    assert [line.partition(": ")[0] for line in lines] == [
        "s.yaml:6", "s.yaml:8", "s.yaml:9", "s.yaml:5", "s.yaml:5", "s.yaml:7"]


# the space

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
    "lr_factor": "{low: 0.1, high: 0.9}", "min_lr": "{low: 0, high: 1e-5}",
}
"""What some parameters could be; a range of numbers for the others."""


@pytest.mark.parametrize("name", RunConfig.model_fields)
def test_a_parameter_is_searched_or_refused_with_the_reason(name: str) -> None:
    space = f"{{{name}: {VALUES.get(name, '{low: 1, high: 2}')}}}"
    base = "{decoder: wavelet}" if name == "decoder_options" else "{}"
    if name in NOT_SEARCHED:
        assert wrong(space, base) == [f"s.yaml:5: {name} cannot be searched: {NOT_SEARCHED[name]}"]
    else:
        assert list(search(space, base).space) == [name]


def test_what_makes_scores_incomparable_or_changes_none_is_not_searched() -> None:
    assert set(NOT_SEARCHED) == {"protocol", "data", "image_size", "weights", "lpips_weights", "val_limit",
                                 "test_limit", "seed", "data_dir", "device", "threads", "strict"}


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


# what a trial runs

def test_a_trial_is_the_base_with_what_was_suggested() -> None:
    spec = load("{encoder: [vgg16, resnet34], lr: {low: 1e-5, high: 1e-2}, epochs: [3, 5]}", base="{seed: 7}")
    assert spec.search is not None
    config = spec.search.configure(spec.base, {"encoder": "resnet34", "lr": 0.0012345678901234567, "epochs": "5"})
    assert (config.encoder, config.lr, config.epochs) == ("resnet34:layer1", 0.0012345678901234567, 5)
    assert (config.seed, config.strict) == (7, True)
    assert spec.search.configure(spec.base | {"lr": "1"}, {"lr": 0.5}).lr == 0.5
    with pytest.raises(RequestError, match="min_lr"):
        spec.search.configure(spec.base, {"lr": 1e-9})


@pytest.mark.parametrize("sampler", ["tpe", "{name: tpe, multivariate: yes, n_startup_trials: 3}", "random", "gp"])
@pytest.mark.parametrize("pruner", ["none", "{name: hyperband, min_resource: 2}", "{name: median, interval_steps: 2}"])
def test_a_search_survives_json(sampler: str, pruner: str) -> None:
    found = search(sampler=sampler, pruner=pruner, seed="5")
    again = Search.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    assert again.distributions() == found.distributions()


def test_searches_that_differ_are_not_equal_and_the_order_of_the_space_is_no_difference() -> None:
    one = search("{decoder: [wavelet, attention], epochs: {low: 1, high: 2}}")
    assert one == search("{epochs: {low: 1, high: 2}, decoder: [wavelet, attention]}")
    others = [search("{decoder: [attention, wavelet], epochs: {low: 1, high: 2}}"),
              search("{decoder: [wavelet, attention], epochs: {low: 1, high: 3}}"),
              search("{decoder: [wavelet, attention], epochs: [1, 2]}")]
    assert all(other != one for other in others)


# samplers and pruners

LEFT_OUT = {
    "tpe": {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints", "gamma", "weights", "seed",
            "warn_independent_sampling", "constraints_func"},
    "random": {"seed"},
    "gp": {"seed", "independent_sampler", "constraints_func", "warn_independent_sampling"},
    "cmaes": {"x0", "sigma0", "independent_sampler", "warn_independent_sampling", "seed", "restart_strategy",
              "inc_popsize", "source_trials"},
}
"""Options that take objects, are deprecated, only warn, or are ours."""


@pytest.mark.parametrize(("name", "kind"), [
    ("tpe", optuna.samplers.TPESampler), ("random", optuna.samplers.RandomSampler),
    ("gp", optuna.samplers.GPSampler), ("cmaes", optuna.samplers.CmaEsSampler),
    ("median", optuna.pruners.MedianPruner), ("hyperband", optuna.pruners.HyperbandPruner),
])
def test_the_options_are_those_of_optuna_with_its_defaults(name: str, kind: type) -> None:
    parameters = {option: parameter.default for option, parameter in inspect.signature(kind).parameters.items()}
    options = options_of(*(("sampler", SAMPLERS[name]) if name in SAMPLERS else ("pruner", PRUNERS[name]))).model_fields
    assert set(options) == set(parameters) - LEFT_OUT.get(name, set())
    assert {option: field.default for option, field in options.items()} == {
        option: parameters[option] for option in options}


def numeric_study(found: Search, count: int) -> optuna.Study:
    """A study in which ``count`` trials at fixed points are done."""
    study = optuna.create_study(direction=found.direction)
    for number in range(count):
        share = (number * 7 % 11 + 1) / 12
        values = {"lr": 1e-5 * 1000**share, "mse_weight": 0.1 + 0.9 * share**2}
        study.add_trial(optuna.create_trial(params=values, distributions=found.distributions(),
                                            value=20 - (share - 0.3) ** 2))
    return study


def suggested(found: Search, study: optuna.Study, number: int) -> dict[str, Any]:
    study.sampler = found.make_sampler(number)
    return study.ask(found.distributions()).params


@pytest.mark.parametrize("sampler", ["{name: tpe, n_startup_trials: 2}", "random", "cmaes",
                                     "{name: tpe, multivariate: on, group: on, n_startup_trials: 2}",
                                     "{name: gp, n_startup_trials: 2, deterministic_objective: yes}"])
def test_a_suggestion_depends_on_the_history_and_the_trials_number_alone(sampler: str) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    found = search(NUMBERS, sampler=sampler)
    with warnings.catch_warnings():
        warnings.simplefilter("error", optuna.exceptions.ExperimentalWarning)
        first = suggested(found, numeric_study(found, 6), 6)
        worker = numeric_study(found, 5)
        suggested(found, worker, 5)  # one that has suggested another trial's values before
        assert suggested(found, numeric_study(found, 6), 6) == first
    assert suggested(found, numeric_study(found, 6), 7) != first
    assert suggested(search(NUMBERS, sampler=sampler, seed="1"), numeric_study(found, 6), 6) != first
    if sampler != "random":
        assert suggested(found, numeric_study(found, 11), 6) != first


def test_options_that_were_set_reach_the_sampler_and_others_stay_optunas(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    searches = search(sampler="{name: tpe, n_startup_trials: 4, constant_liar: no}"), search()
    monkeypatch.setattr(optuna.samplers, "TPESampler", lambda **options: given.append(options))
    for each in searches:
        each.make_sampler(0)
    assert given[0].keys() == {"seed", "n_startup_trials", "constant_liar"}
    assert (given[0]["n_startup_trials"], given[0]["constant_liar"]) == (4, False)
    assert given[1].keys() == {"seed"}


@pytest.mark.parametrize(("sampler", "kind"), [
    ("tpe", optuna.samplers.TPESampler), ("random", optuna.samplers.RandomSampler), ("gp", optuna.samplers.GPSampler)])
def test_a_sampler_takes_texts_and_numbers(sampler: str, kind: type) -> None:
    found = search(sampler=sampler)
    assert isinstance(found.make_sampler(0), kind)
    study = optuna.create_study()
    params = suggested(found, study, 0)
    assert params["decoder"] in ("wavelet", "attention")
    assert found.configure({}, params).decoder == params["decoder"]


def install_cmaes(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    real = importlib.util.find_spec
    cmaes = real("json") if there else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: cmaes if name == "cmaes" else real(name))


def test_cma_es_samples_numbers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cmaes(monkeypatch, True)
    assert wrong(sampler="cmaes") == ["s.yaml:7: CMA-ES samples numbers only: decoder is categorical. "
                                      "Use tpe, gp or random."]
    assert search(NUMBERS, sampler="{name: cmaes, popsize: 5, with_margin: yes}").sampler.options == {
        "popsize": 5, "with_margin": True}
    line, = wrong(NUMBERS, sampler="{name: cmaes, use_separable_cma: yes, lr_adapt: yes}")
    assert line.startswith("s.yaml:7: sampler cmaes: only one of ")


def test_cma_es_without_its_package_is_reported_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install_cmaes(monkeypatch, False)
    assert wrong(NUMBERS, sampler="cmaes") == [
        "s.yaml:7: sampler cmaes needs a package that is not installed. Install it with: pip install cmaes"]


@pytest.mark.parametrize(("pruner", "kind"), [
    ("none", optuna.pruners.NopPruner), ("{name: none}", optuna.pruners.NopPruner),
    ("{name: median, n_warmup_steps: 3}", optuna.pruners.MedianPruner), ("hyperband", optuna.pruners.HyperbandPruner),
])
def test_a_pruner_is_optunas(pruner: str, kind: type) -> None:
    assert isinstance(search(pruner=pruner).make_pruner(), kind)


@pytest.mark.parametrize(("space", "base", "pruner", "most"), [
    (MIXED, "{}", "hyperband", 30), (MIXED, "{epochs: 12}", "hyperband", 12),
    ("{epochs: {low: 4, high: 9}}", "{}", "hyperband", 9), ("{epochs: [4, 16, 10]}", "{}", "hyperband", 16),
    (MIXED, "{}", "{name: hyperband, max_resource: auto}", 30), (MIXED, "{}", "{name: hyperband, max_resource: 5}", 5),
])
def test_hyperband_knows_the_most_epochs_of_a_trial(space: str, base: str, pruner: str, most: int) -> None:
    assert search(space, base, pruner=pruner).pruner.options == {"max_resource": most}


@pytest.mark.parametrize("metric", ["best/val_psnr", "best/val_loss"])
def test_the_median_pruner_stops_what_is_worse_the_way_the_study_looks(metric: str) -> None:
    found = search("{decoder: [wavelet, attention]}", metric=metric, pruner="{name: median, n_startup_trials: 3}")
    study = optuna.create_study(direction=found.direction, pruner=found.make_pruner())
    for value in (1.0, 2.0, 3.0):
        trial = study.ask()
        trial.report(value, 1)
        study.tell(trial, value)
    pruned = []
    for value in (0.5, 3.5):
        trial = study.ask()
        trial.report(value, 1)
        pruned.append(trial.should_prune())
    assert pruned == ([True, False] if found.direction == "maximize" else [False, True])
