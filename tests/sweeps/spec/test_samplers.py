"""Samplers and pruners of a search: Optuna's, with its defaults."""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from typing import Any

import optuna
import pytest

from inversion.sweeps.spec.search import PRUNERS, SAMPLERS, Search
from inversion.sweeps.spec.search_section import options_of
from tests.sweeps.spec.searches import MIXED, NUMBERS, search, wrong

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
