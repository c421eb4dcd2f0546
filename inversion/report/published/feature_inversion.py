"""The published study of feature inversion on DIV2K: its findings, and the rule that judges each.

Its figures are in ``feature_inversion.yaml``; ``docs/published-study.md`` says which of them contradict each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from functools import partial

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.study import StudyData
from inversion.report.published import Counterparts, Figures, PublishedStudy, load_figures, published_study, studies
from inversion.report.published._figure_table import Ours
from inversion.report.stats.comparisons import Comparison, holds_up
from inversion.report.tables.findings import (
    Evidence,
    Finding,
    Judged,
    describe,
    every_first_is_better,
    family,
    no_first_gains_much,
    of_trainings,
    verdict_of,
)
from inversion.text import number

SIMPLE = "transposed_conv"
DECODERS = (SIMPLE, "attention", "wavelet", "frequency_aware")
FUSIONS = ("weighted", "attention", "concat")
SIDES = {"vgg16:block1": 112, "resnet34:layer1": 56, "pvt_v2_b2:stage1": 56, "vgg16:block3": 28, "resnet34:layer2": 28,
         "pvt_v2_b2:stage2": 28, "vit_small:block1": 14, "vit_small:block3": 14}
"""The layers of the study, with the side of their feature maps for images of 224 pixels."""

SHALLOWEST = ("vgg16:block1", "resnet34:layer1", "pvt_v2_b2:stage1", "vit_small:block1")
DEEPER = (("vgg16:block1", "vgg16:block3"), ("resnet34:layer1", "resnet34:layer2"),
          ("pvt_v2_b2:stage1", "pvt_v2_b2:stage2"), ("vit_small:block1", "vit_small:block3"))
SINGLE = tuple(f"{layer}+{decoder}" for layer in SIDES for decoder in DECODERS)
ENSEMBLES = tuple(f"ensemble+{fusion}+{decoder}" for fusion in FUSIONS for decoder in DECODERS)
WINNER = f"vgg16:block1+{SIMPLE}"
MARGIN_DB = 0.5
"""Larger differences are significant, according to the study."""

HALVING_PERCENT = (10.0, 15.0)
TIMES = (3.0, 5.0)


def figures() -> Figures:
    """Every figure of the study."""
    return load_figures(__file__)


@studies.register("feature_inversion")
def study() -> PublishedStudy:
    """The study as the report shows it."""
    return published_study("published", figures(), FINDINGS, COUNTERPARTS)


def resolution(evidence: Evidence) -> Judged:
    """Finer against coarser layers of any network."""
    return every_first_is_better(evidence, [(f"{fine}+{SIMPLE}", f"{coarse}+{SIMPLE}") for fine, coarse
                                            in itertools.product(SIDES, SIDES) if SIDES[fine] > SIDES[coarse]])


def best_single(evidence: Evidence) -> Judged:
    """The published winner against all other single models."""
    return every_first_is_better(evidence, [(WINNER, other) for other in SINGLE if other != WINNER])


def simplest_best(evidence: Evidence) -> Judged:
    """The simple decoder against the others, at the published winner's layer."""
    return every_first_is_better(evidence, [(WINNER, f"vgg16:block1+{decoder}") for decoder in DECODERS[1:]])


def simplicity(evidence: Evidence) -> Judged:
    """Gains of the complex decoders over the simple one, at each shallowest layer."""
    return no_first_gains_much(evidence, MARGIN_DB, [(f"{layer}+{decoder}", f"{layer}+{SIMPLE}")
                                                     for layer in SHALLOWEST for decoder in DECODERS[1:]])


def architecture(evidence: Evidence) -> Judged:
    """VGG16 against the other networks at their shallowest layers."""
    return every_first_is_better(evidence, [(WINNER, f"{layer}+{SIMPLE}") for layer in SHALLOWEST[1:]])


def depth(evidence: Evidence) -> Judged:
    """The shallower against the deeper layer of each network."""
    return every_first_is_better(evidence, [(f"{upper}+{SIMPLE}", f"{lower}+{SIMPLE}") for upper, lower in DEEPER])


def halving(evidence: Evidence) -> Judged:
    """PSNR lost by each halving: ``1 - (deep / shallow)^(1 / halvings)``; the shallow mean is taken as exact."""
    layers = [(upper, lower) for upper, lower in DEEPER if SIDES[upper] > SIDES[lower]]
    pairs = {(f"{upper}+{SIMPLE}", f"{lower}+{SIMPLE}"): (SIDES[upper] // SIDES[lower]).bit_length() - 1
             for upper, lower in layers}
    found, missing = family(evidence, list(pairs))
    if one_seed := of_trainings(found):
        return verdict_of([one_seed], missing)
    sentences, inside, outside = [], 0, 0
    least, most = HALVING_PERCENT
    for pair, comparison in found.items():
        mean = evidence.score(pair[0])
        interval = comparison.simultaneous
        if mean is None or mean <= 0 or interval is None:
            continue
        middle, low, high = (_lost_percent(difference, mean, pairs[pair]) for difference in
                             (comparison.difference, interval.low, interval.high))
        sentences.append(f"From {pair[0]} to {pair[1]}: {number(middle, '.1f')} % each "
                         f"({number(low, '.1f')} to {number(high, '.1f')}).")
        inside += comparison.is_decidable and least <= low <= high <= most
        outside += comparison.is_decidable and (high < least or low > most)
    return verdict_of(sentences, missing, contradicted=outside > 0, supported=inside == len(pairs))


def ensembles(evidence: Evidence) -> Judged:
    """Gains of every ensemble over the best single model; those with the simple decoder are required.

    The best single model is chosen by validation PSNR: by test PSNR, it would be ahead by its luck on the test images.
    """
    run = evidence.configurations()
    required = [WINNER, *(f"ensemble+{fusion}+{SIMPLE}" for fusion in FUSIONS)]
    scores = {name: score for name in SINGLE if name in run and (score := evidence.validation(name)) is not None}
    if not scores:
        return no_first_gains_much(evidence, MARGIN_DB, [], required)
    best = max(scores, key=lambda name: scores[name])
    return no_first_gains_much(evidence, MARGIN_DB, [(name, best) for name in ENSEMBLES if name in run], required)


def ensemble_cost(evidence: Evidence) -> Judged:
    """Compute of the weighted ensemble relative to the published winner."""
    return _times(evidence, "compute", "gflops_per_image", "The compute was not measured.")


def ensemble_memory(evidence: Evidence) -> Judged:
    """Memory of the weighted ensemble relative to the published winner, if both trained on a GPU."""
    return _times(evidence, "peak memory of training", "train_peak_memory_mb",
                  "Memory is known only for runs that trained on a GPU, one at a time.")


def _times(evidence: Evidence, what: str, metric: str, unknown: str) -> Judged:
    ensemble = f"ensemble+weighted+{SIMPLE}"
    missing = tuple(name for name in (WINNER, ensemble) if name not in evidence.configurations())
    several, one = evidence.cost(ensemble, metric), evidence.cost(WINNER, metric)
    if missing or several is None or not one:
        return verdict_of([] if missing else [unknown], missing)
    least, most = TIMES
    inside = least <= several / one <= most
    return verdict_of([f"The weighted ensemble takes {several / one:.2f} times the {what}."], (),
                      contradicted=not inside, supported=inside)


def fusion(evidence: Evidence) -> Judged:
    """The three fusions in their published order."""
    return every_first_is_better(evidence, list(itertools.combinations(
        [f"ensemble+{fusion}+{SIMPLE}" for fusion in FUSIONS], 2)))


def half_a_decibel(evidence: Evidence) -> Judged:
    """Whether half a decibel separates the differences that hold up from those that do not.

    A large difference that does not hold up does not contradict the claim, since more images may confirm it. A
    difference that holds up although its interval is entirely within the margin does.
    """
    found, missing = family(evidence, list(itertools.combinations(figures().configurations, 2)))
    if one_seed := of_trainings(found):
        return verdict_of([one_seed], missing)
    large = {pair: item for pair, item in found.items() if abs(item.difference) > MARGIN_DB}
    small = {pair: item for pair, item in found.items() if pair not in large}
    chance = {pair: item for pair, item in large.items() if not holds_up(item)}
    real = {pair: item for pair, item in small.items() if holds_up(item)}
    sentences = [f"{len(large) - len(chance)} of {len(large)} differences above {MARGIN_DB} dB hold up, and "
                 f"{len(real)} of {len(small)} below."] if found else []
    if real:
        least = min(real, key=lambda pair: abs(real[pair].difference))
        sentences.append(f"The smallest that holds up: {describe(least, real[least])}.")
    if chance:
        most = max(chance, key=lambda pair: abs(chance[pair].difference))
        sentences.append(f"The largest that does not: {describe(most, chance[most])}.")
    against = [item for item in found.values() if holds_up(item) and _is_surely_small(item)]
    complete = bool(large and small) and not missing and not chance and not real
    return verdict_of(sentences, missing, contradicted=bool(against), supported=complete)


def vit_wavelet(evidence: Evidence) -> Judged:
    """The other decoders against wavelet at ViT-Small's shallowest layer."""
    worst = "vit_small:block1+wavelet"
    return every_first_is_better(evidence, [(f"vit_small:block1+{decoder}", worst) for decoder in DECODERS
                                            if decoder != "wavelet"])


def _is_surely_small(comparison: Comparison) -> bool:
    interval = comparison.simultaneous
    return interval is not None and -MARGIN_DB < interval.low <= interval.high < MARGIN_DB


def _lost_percent(difference: float, mean: float, halvings: int) -> float:
    kept = max(0.0, (mean - difference) / mean)
    return 100 * (1 - float(kept ** (1 / halvings)))


def _values(data: StudyData, board: Board) -> Mapping[tuple[str, str], Ours]:
    """Our values for figures in the study's text."""
    winner, baseline = board.chosen.get(figures().winner), board.chosen.get(figures().baseline)
    best = board.ensembles[0] if board.ensembles else None
    gain_percent = partial(_gain_percent, best, winner)
    values: dict[tuple[str, str], Ours] = {
        ("configurations", ""): lambda: len(data.runs) + len(data.missing),
        ("single models", ""): lambda: len(board.single), ("ensembles", ""): lambda: len(board.ensembles),
        ("PSNR of the winner", "dB"): lambda: winner.psnr.mean if winner else None,
        (f"PSNR of {figures().winner}", "dB"): lambda: winner.psnr.mean if winner else None,
        ("its standard deviation", "dB"): lambda: winner.std("psnr") if winner else None,
        ("gain of the best ensemble", "dB"): lambda: best.psnr.mean - winner.psnr.mean if best and winner else None,
        ("gain of the best ensemble", "%"): gain_percent,
        ("gain of ensembles", "%"): gain_percent,
        ("gain over the attention baseline", "%"): lambda: _gain_percent(winner, baseline),
        ("PSNR gained over the first baseline", "%"): lambda: _gain_percent(winner, baseline),
        ("resolution of the winner", ""): lambda: _side(winner),
        ("locations of the winner", ""): lambda: _locations(winner),
    }
    for layer in figures().layers:
        item = next(iter(board.having(encoder=layer)), None)
        values[f"resolution of {layer}", ""] = partial(_side, item)
        values[f"locations of {layer}", ""] = partial(_locations, item)
    return values


def _locations(item: Configuration | None) -> float | None:
    return item.cost("feature_locations") if item else None


def _side(item: Configuration | None) -> float | None:
    locations = _locations(item)
    return None if locations is None else math.sqrt(locations)


def _gain_percent(item: Configuration | None, over: Configuration | None) -> float | None:
    return 100 * (item.psnr.mean / over.psnr.mean - 1) if item and over else None


COUNTERPARTS = Counterparts(
    parameters={"image size": ("image_size",), "cropped to": ("image_size",), "learning rate": ("lr",),
                "patience of the scheduler": ("lr_patience",), "patience of early stopping": ("patience",),
                "batch size": ("batch_size",), "epochs at most": ("epochs",),
                "weight of MSE and of LPIPS": ("mse_weight", "lpips_weight")},
    splits={"training images": "train", "validation images": "val", "test images": "test"},
    values=_values,
    not_defined=frozenset({"cost_per_db"}),
)

_EVERY = "contradicted if one difference holds up the other way."
_FEW = "The intervals hold together for all pairs."

FINDINGS: tuple[Finding, ...] = (
    Finding("resolution", "5.1, 7", "Spatial resolution decides: a finer layer is better than a coarser one, whatever "
            "the network.", "With transposed_conv, in all 23 pairs of layers of different resolution the finer one is "
            f"ahead, and that holds up; {_EVERY}", resolution),
    Finding("best_single", "4.5, 6", "vgg16:block1 with transposed_conv is the best single model.",
            f"It is ahead of each of the other 31, and that holds up; {_EVERY}", best_single),
    Finding("simplest_best", "4.1, 10", "At vgg16:block1 the simplest decoder, transposed_conv, is the best.",
            f"It is ahead of the three others there, and that holds up; {_EVERY}", simplest_best),
    Finding("simplicity", "7, 8", "A simple decoder suffices: complex ones improve nothing that counts.",
            "At the shallowest layer of each encoder, every other decoder is surely less than 0.5 dB above "
            "transposed_conv; contradicted if one is surely more than 0.5 dB above it. " + _FEW, simplicity),
    Finding("architecture", "4.2, 7", "VGG16 is easier to invert than the other architectures.",
            "At the shallowest layers, with transposed_conv, vgg16 is ahead of the three others, and that holds up; "
            f"{_EVERY}", architecture),
    Finding("depth", "4.3, 8", "A deeper layer of the same encoder gives a worse picture.",
            "With transposed_conv, in all four encoders the shallower layer is ahead, and that holds up; "
            f"{_EVERY}", depth),
    Finding("halving", "4.3", "Every halving of the resolution costs 10 to 15 % of the PSNR.",
            "With transposed_conv, in vgg16, resnet34 and pvt_v2_b2, the 95 % interval of the loss for each halving "
            "lies within 10 to 15 %; contradicted if one lies outside. " + _FEW, halving),
    Finding("ensembles", "4.6, 7", "Ensembles gain too little over the best single model to be worth their cost.",
            "Every ensemble is surely less than 0.5 dB above the best single model; contradicted if one is surely "
            "more than that above it. " + _FEW, ensembles),
    Finding("ensemble_cost", "4.6", "An ensemble of four takes four times the compute.",
            "With transposed_conv, GFLOPs per image are 3 to 5 times those of vgg16:block1; contradicted if they are "
            "not.", ensemble_cost),
    Finding("ensemble_memory", "4.6", "An ensemble of four takes four times the memory.",
            "With transposed_conv, the peak memory of training on a GPU is 3 to 5 times that of vgg16:block1; "
            "contradicted if it is not.", ensemble_memory),
    Finding("fusion", "4.6", "Weighted fusion is better than attention, and attention better than concatenation.",
            f"With transposed_conv, all three differences hold up in this order; {_EVERY}", fusion),
    Finding("half_a_decibel", "5.3", "Differences above 0.5 dB are significant and smaller ones are not.",
            "Among the 20 configurations with published figures, all differences above 0.5 dB hold up and none below "
            "does; contradicted if one holds up whose whole interval lies within 0.5 dB. " + _FEW, half_a_decibel),
    Finding("vit_wavelet", "4.4", "At vit_small:block1 the wavelet decoder is the worst.",
            f"The three other decoders are ahead of it there, and that holds up; {_EVERY}", vit_wavelet),
)
