"""Every published finding gets each verdict from runs that were made to deserve it, and names what it lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
import pytest

from inversion.config.resolve import run_name
from inversion.report.published.feature_inversion import FINDINGS, figures
from inversion.report.stats.comparisons import Comparison, compare_pools
from inversion.report.stats.pools import SeedPool, pool_seeds
from inversion.report.stats.seed_noise import SeedNoise
from inversion.report.tables.findings import Judgement, Verdict, judge_findings
from inversion.sweeps.spec.spec import load_spec

SUPPORTED, CONTRADICTED, UNDECIDED = Verdict.SUPPORTED, Verdict.CONTRADICTED, Verdict.UNDECIDED

TC = "transposed_conv"


class Runs:
    """Constructed runs: images that share their difficulty, and a mean for each configuration.

    ``seed_sd`` is the known seed noise in dB; None for one that is not known.
    """

    def __init__(self, means: Mapping[str, float], images: int = 60, noise: float = 0.05,
                 costs: Mapping[tuple[str, str], float] | None = None, seed_sd: float | None = 0.005,
                 validation: Mapping[str, float] | None = None) -> None:
        generator = np.random.default_rng(0)
        difficulty = generator.normal(0, 2, images)
        names = [f"{i:03}" for i in range(images)]
        self.costs = costs or {}
        self.noise = None if seed_sd is None else SeedNoise(seed_sd)
        self.validated = means if validation is None else validation
        self.pools: dict[str, SeedPool] = {}
        for name, mean in means.items():
            spread = difficulty + generator.normal(0, noise, images)
            self.pools[name] = pool_seeds({0: pd.Series(mean + spread - spread.mean(), names)})

    def configurations(self) -> Collection[str]:
        return self.pools.keys()

    def score(self, configuration: str) -> float | None:
        return self.pools[configuration].mean if configuration in self.pools else None

    def validation(self, configuration: str) -> float | None:
        return self.validated.get(configuration)

    def compare(self, a: str, b: str) -> Comparison | None:
        return compare_pools(self.pools[a], self.pools[b], self.noise) if {a, b} <= self.pools.keys() else None

    def cost(self, configuration: str, metric: str) -> float | None:
        return self.costs.get((configuration, metric))


def judge(name: str, runs: Runs) -> Judgement:
    """One finding, by its name."""
    judgement, = judge_findings([finding for finding in FINDINGS if finding.name == name], runs)
    return judgement


def expensive(compute: float, memory: float) -> dict[tuple[str, str], float]:
    """Costs of the weighted ensemble as multiples of the winner's."""
    one, four = f"vgg16:block1+{TC}", f"ensemble+weighted+{TC}"
    return {(one, "gflops_per_image"): 3.0, (four, "gflops_per_image"): 3.0 * compute,
            (one, "train_peak_memory_mb"): 500.0, (four, "train_peak_memory_mb"): 500.0 * memory}


SIDES = {"vgg16:block1": 112, "resnet34:layer1": 56, "pvt_v2_b2:stage1": 56, "vgg16:block3": 28, "resnet34:layer2": 28,
         "pvt_v2_b2:stage2": 28, "vit_small:block1": 14, "vit_small:block3": 14}
BY_SIDE = {112: 20.0, 56: 18.0, 28: 15.0, 14: 13.0}


def agreeable() -> dict[str, float]:
    """Means of all 44 configurations with which every finding on quality but two is right."""
    means = {f"{layer}+{decoder}": BY_SIDE[side] - 0.3 * place for layer, side in SIDES.items()
             for place, decoder in enumerate((TC, "attention", "frequency_aware", "wavelet"))}
    means |= {name: mean - 0.7 for name, mean in means.items() if name.startswith("vit_small:block3")}
    return means | {f"ensemble+{fusion}+{decoder}": 20.3 - 0.1 * place - 0.3 * other
                    for place, fusion in enumerate(("weighted", "attention", "concat"))
                    for other, decoder in enumerate((TC, "attention", "frequency_aware", "wavelet"))}


def published() -> dict[str, float]:
    """The means that the study published."""
    scores = {name: figures().score(name) for name in figures().configurations}
    return {name: mention.row.psnr for name, mention in scores.items() if mention is not None}


HALVING = {f"vgg16:block1+{TC}": 20.0, f"vgg16:block3+{TC}": 20.0 * 0.88**2, f"resnet34:layer1+{TC}": 18.0,
           f"resnet34:layer2+{TC}": 18.0 * 0.88, f"pvt_v2_b2:stage1+{TC}": 18.0, f"pvt_v2_b2:stage2+{TC}": 18.0 * 0.87}

OPPOSITE = {
    "resolution": {f"vit_small:block1+{TC}": 19.0},
    "best_single": {"pvt_v2_b2:stage1+attention": 20.5},
    "simplest_best": {"vgg16:block1+wavelet": 20.2},
    "simplicity": {"resnet34:layer1+wavelet": 18.65},
    "architecture": {f"pvt_v2_b2:stage1+{TC}": 20.4},
    "depth": {f"resnet34:layer2+{TC}": 18.5},
    "ensembles": {f"ensemble+weighted+{TC}": 20.9},
    "fusion": {f"ensemble+concat+{TC}": 20.35},
    "vit_wavelet": {"vit_small:block1+wavelet": 14.0},
}
"""For each finding the change to ``agreeable`` that turns its verdict."""

CHANCE = {
    "resolution": {f"pvt_v2_b2:stage1+{TC}": 20.0},
    "best_single": {"vgg16:block1+attention": 20.0},
    "simplest_best": {"vgg16:block1+frequency_aware": 20.0},
    "simplicity": {"pvt_v2_b2:stage1+wavelet": 18.5},
    "architecture": {f"resnet34:layer1+{TC}": 20.0},
    "depth": {f"pvt_v2_b2:stage2+{TC}": 18.0},
    "ensembles": {f"ensemble+weighted+{TC}": 20.5},
    "fusion": {f"ensemble+attention+{TC}": 20.3},
    "vit_wavelet": {"vit_small:block1+wavelet": 12.4},
}
"""For each finding a change that leaves one difference to chance, or a gain at the margin."""


@pytest.mark.parametrize("name", OPPOSITE)
def test_a_finding_is_supported_where_every_difference_holds_up(name: str) -> None:
    found = judge(name, Runs(agreeable()))
    assert found.verdict == SUPPORTED, found.evidence
    assert "dB" in found.evidence
    assert not found.missing


@pytest.mark.parametrize("name", OPPOSITE)
def test_a_finding_is_contradicted_where_the_opposite_holds_up(name: str) -> None:
    change, = OPPOSITE[name]
    found = judge(name, Runs(agreeable() | OPPOSITE[name]))
    assert found.verdict == CONTRADICTED, found.evidence
    assert change in found.evidence


@pytest.mark.parametrize("name", CHANCE)
def test_a_finding_is_undecided_where_a_difference_may_be_chance(name: str) -> None:
    found = judge(name, Runs(agreeable() | CHANCE[name]))
    assert found.verdict == UNDECIDED, found.evidence
    assert not found.missing


@pytest.mark.parametrize("name", OPPOSITE)
def test_a_finding_whose_runs_are_missing_is_undecided_and_names_them(name: str) -> None:
    change, = OPPOSITE[name]
    found = judge(name, Runs({key: mean for key, mean in agreeable().items() if key != change}))
    assert found.verdict == UNDECIDED, found.evidence
    assert found.missing == (change,)
    assert f"Not run: {change}." in found.evidence


@pytest.mark.parametrize("name", sorted(set(OPPOSITE) - {"ensembles", "simplicity"}))
def test_a_finding_can_be_contradicted_before_all_has_run(name: str) -> None:
    keep, = OPPOSITE[name]
    means = agreeable() | OPPOSITE[name]
    missing = next(key for key in reversed(means) if key not in (keep, *figures().configurations))
    found = judge(name, Runs({key: mean for key, mean in means.items() if key != missing}))
    assert found.verdict == CONTRADICTED


@pytest.mark.parametrize(("change", "verdict"), [
    ({}, SUPPORTED),
    ({f"resnet34:layer2+{TC}": 18.0 * 0.80}, CONTRADICTED),  # 20 %
    ({f"vgg16:block3+{TC}": 20.0 * 0.95**2}, CONTRADICTED),  # 5 % each
    ({f"vgg16:block3+{TC}": 20.0 * 0.85**2}, UNDECIDED),     # the interval contains 15 %
])
def test_what_a_halving_costs(change: dict[str, float], verdict: Verdict) -> None:
    assert judge("halving", Runs(HALVING | change)).verdict == verdict


def test_what_a_halving_costs_is_undecided_without_one_network() -> None:
    found = judge("halving", Runs({key: mean for key, mean in HALVING.items() if "stage2" not in key}))
    assert (found.verdict, found.missing) == (UNDECIDED, (f"pvt_v2_b2:stage2+{TC}",))
    assert f"From vgg16:block1+{TC} to vgg16:block3+{TC}: 12.0 % each" in found.evidence


@pytest.mark.parametrize(("compute", "memory", "verdicts"), [
    (4.0, 3.9, (SUPPORTED, SUPPORTED)), (4.0, 1.25, (SUPPORTED, CONTRADICTED)), (2.0, 4.0, (CONTRADICTED, SUPPORTED))])
def test_what_an_ensemble_costs(compute: float, memory: float, verdicts: tuple[Verdict, Verdict]) -> None:
    runs = Runs(agreeable(), costs=expensive(compute, memory))
    found = [judge(name, runs) for name in ("ensemble_cost", "ensemble_memory")]
    assert tuple(item.verdict for item in found) == verdicts
    assert f"{compute:.2f} times the compute" in found[0].evidence
    assert f"{memory:.2f} times the peak memory of training" in found[1].evidence


@pytest.mark.parametrize(("name", "evidence"), [
    ("ensemble_cost", "The compute was not measured."),
    ("ensemble_memory", "Memory is known only for runs that trained on a GPU, one at a time."),
])
def test_what_an_ensemble_costs_is_undecided_where_it_was_not_measured(name: str, evidence: str) -> None:
    found = judge(name, Runs({f"vgg16:block1+{TC}": 20.0}))
    assert (found.verdict, found.missing) == (UNDECIDED, (f"ensemble+weighted+{TC}",))
    found = judge(name, Runs(agreeable()))
    assert (found.verdict, found.evidence) == (UNDECIDED, evidence)


def test_half_a_decibel_parts_what_is_real_only_where_it_does() -> None:
    # Steps of a whole decibel hold up at this noise, and one of 0.02 dB does not
    means = {name: 30.0 - place for place, name in enumerate(figures().configurations)}
    first, second, *_ = means
    means[second] = means[first] + 0.02
    assert judge("half_a_decibel", Runs(means, noise=0.3)).verdict == SUPPORTED
    real = judge("half_a_decibel", Runs(means | {second: means[first] + 0.2}, noise=0.1))
    assert real.verdict == CONTRADICTED
    assert f"The smallest that holds up: {first} minus {second}: \N{MINUS SIGN}0.20 dB" in real.evidence
    chance = judge("half_a_decibel", Runs(means | {second: means[first] + 0.6}, images=8, noise=1.0))
    assert chance.verdict == UNDECIDED  # more images may show that it is real, as the claim has it
    assert "The largest that does not" in chance.evidence
    unsure = judge("half_a_decibel", Runs(means | {second: means[first] + 0.45}, noise=0.4))
    assert unsure.verdict == UNDECIDED  # it holds up, and may be above half a decibel
    assert "The smallest that holds up" in unsure.evidence
    del means[next(reversed(means))]
    assert judge("half_a_decibel", Runs(means, noise=0.3)).verdict == UNDECIDED


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("means", [agreeable(), agreeable() | HALVING, {**agreeable(), "vgg16:block1+wavelet": 20.2}])
def test_few_images_decide_nothing(images: int, means: dict[str, float]) -> None:
    verdicts = {item.finding.name: item.verdict for item in judge_findings(FINDINGS, Runs(means, images=images))}
    assert verdicts == dict.fromkeys(verdicts, UNDECIDED)
    assert {"half_a_decibel", "simplicity", "ensembles", "halving"} <= verdicts.keys()


def test_one_seed_of_each_decides_nothing_between_configurations() -> None:
    for means in (agreeable(), agreeable() | {name: mean for change in OPPOSITE.values()
                                              for name, mean in change.items()}):
        for found in judge_findings(FINDINGS, Runs(means | HALVING, seed_sd=None)):
            assert found.verdict == UNDECIDED, found
            assert found.evidence.startswith(("One seed each: ", "The compute was not", "Memory is known only"))


def test_a_seed_noise_that_could_explain_a_difference_leaves_it_undecided() -> None:
    """The means differ by 0.3 dB where they differ least."""
    for seed_sd, verdict in ((0.01, SUPPORTED), (0.3, UNDECIDED)):
        assert judge("simplest_best", Runs(agreeable(), seed_sd=seed_sd)).verdict == verdict
        assert judge("fusion", Runs(agreeable(), seed_sd=seed_sd)).verdict == verdict


def test_the_best_single_model_is_chosen_by_validation_and_not_by_luck_on_the_test_images() -> None:
    means = agreeable() | {"vgg16:block1+wavelet": 20.9}  # as its test scores have it
    unlucky = judge("ensembles", Runs(means, validation=agreeable()))
    assert f"minus vgg16:block1+{TC}" in unlucky.evidence
    assert "minus vgg16:block1+wavelet" in judge("ensembles", Runs(means)).evidence


def test_six_images_can_decide() -> None:
    verdicts = {item.finding.name: item.verdict for item in judge_findings(FINDINGS, Runs(agreeable(), images=6))}
    assert (verdicts["simplicity"], verdicts["ensembles"]) == (SUPPORTED, SUPPORTED)


def test_without_runs_everything_is_undecided() -> None:
    for found in judge_findings(FINDINGS, Runs({})):
        assert (found.verdict, found.evidence[:8]) == (UNDECIDED, "Not run:")
        assert found.missing


def test_the_published_means_contradict_some_published_findings() -> None:
    """With the study's own figures, and a noise that makes half a decibel significant."""
    runs = Runs(published(), images=100, noise=0.3)
    verdicts = {item.finding.name: item.verdict for item in judge_findings(FINDINGS, runs)}
    assert verdicts["resolution"] == CONTRADICTED  # vit_small at 14×14 is above resnet34 at 56×56
    assert verdicts["simplicity"] == CONTRADICTED  # wavelet at resnet34:layer1 +0.65 dB, attention at pvt_v2_b2 +0.63
    assert verdicts["architecture"] == SUPPORTED
    assert verdicts["vit_wavelet"] == SUPPORTED


def test_rules_name_only_configurations_of_the_grid() -> None:
    known = {run_name(item.config, []) for item in load_spec("grid.yaml").configurations}
    lacking = {name for found in judge_findings(FINDINGS, Runs({})) for name in found.missing}
    assert lacking <= known
    assert len(lacking) > 30


def test_every_finding_is_told_once_and_every_published_one_has_a_rule() -> None:
    names = [finding.name for finding in FINDINGS]
    assert len(set(names)) == len(names) == 13
    assert {finding.name for finding in figures().findings} <= set(names)
