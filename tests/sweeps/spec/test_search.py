"""Searches: what may be optimised and searched, what Optuna is given, and that equal history suggests equal values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from inversion.errors import RequestError, SeveralErrors
from inversion.objectives import OBJECTIVES
from inversion.sweeps.spec.search import Search
from inversion.sweeps.spec.spec import load_spec
from tests.sweeps.spec.searches import MIXED, NUMBERS, load, search, wrong


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
    assert found.direction == OBJECTIVES[metric] == OBJECTIVES[reported]
    assert (found.direction == "maximize") == metric.endswith(("psnr", "ssim"))
    assert search(metric=metric, direction=found.direction) == found


def test_every_metric_is_tried() -> None:
    assert len(OBJECTIVES) == 7


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


@pytest.mark.parametrize("metric", OBJECTIVES)
def test_a_direction_that_disagrees_with_the_metric_is_refused(metric: str) -> None:
    other = {"maximize": "minimize", "minimize": "maximize"}[OBJECTIVES[metric]]
    for direction in (other, "up"):
        assert wrong(metric=metric, direction=direction) == [
            f"s.yaml:8: direction: the direction of {metric} is {OBJECTIVES[metric]}; leave direction out"]


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
    ({"pruner": "hyperbnd"}, "s.yaml:7: unknown pruner 'hyperbnd'. Known: none, median, successive_halving, "
     "hyperband. Did you mean"),
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
