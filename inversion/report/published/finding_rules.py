"""The rule of each published finding: which configurations are compared, and what must be seen."""

from __future__ import annotations

import itertools

from inversion.report.published.finding_kinds import (
    MARGIN_DB,
    Evidence,
    Judged,
    enough,
    every_first_is_better,
    family,
    judged,
    no_first_gains_much,
    told,
)
from inversion.report.published.published import load
from inversion.report.stats.statistics import Comparison, holds_up

SIMPLE = "transposed_conv"
DECODERS = (SIMPLE, "attention", "wavelet", "frequency_aware")
FUSIONS = ("weighted", "attention", "concat")
SIDES = {"vgg16:block1": 112, "resnet34:layer1": 56, "pvt_v2_b2:stage1": 56, "vgg16:block3": 28, "resnet34:layer2": 28,
         "pvt_v2_b2:stage2": 28, "vit_small:block1": 14, "vit_small:block3": 14}
"""The study's layers with the side of their feature maps for images of 224 pixels."""

SHALLOWEST = ("vgg16:block1", "resnet34:layer1", "pvt_v2_b2:stage1", "vit_small:block1")
DEEPER = (("vgg16:block1", "vgg16:block3"), ("resnet34:layer1", "resnet34:layer2"),
          ("pvt_v2_b2:stage1", "pvt_v2_b2:stage2"), ("vit_small:block1", "vit_small:block3"))
SINGLE = tuple(f"{layer}+{decoder}" for layer in SIDES for decoder in DECODERS)
ENSEMBLES = tuple(f"ensemble+{fusion}+{decoder}" for fusion in FUSIONS for decoder in DECODERS)
WINNER = f"vgg16:block1+{SIMPLE}"
HALVING_PERCENT = (10.0, 15.0)
TIMES = (3.0, 5.0)


def resolution(evidence: Evidence) -> Judged:
    """Finer layers against coarser ones, of any network."""
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
    return no_first_gains_much(evidence, [(f"{layer}+{decoder}", f"{layer}+{SIMPLE}")
                                          for layer in SHALLOWEST for decoder in DECODERS[1:]])


def architecture(evidence: Evidence) -> Judged:
    """VGG16 against the other networks, at their shallowest layers."""
    return every_first_is_better(evidence, [(WINNER, f"{layer}+{SIMPLE}") for layer in SHALLOWEST[1:]])


def depth(evidence: Evidence) -> Judged:
    """The shallower against the deeper layer of each network."""
    return every_first_is_better(evidence, [(f"{upper}+{SIMPLE}", f"{lower}+{SIMPLE}") for upper, lower in DEEPER])


def halving(evidence: Evidence) -> Judged:
    """PSNR lost by each halving: ``1 - (deep / shallow)^(1 / halvings)``, the shallow layer's mean taken as exact."""
    layers = [(upper, lower) for upper, lower in DEEPER if SIDES[upper] > SIDES[lower]]
    pairs = {(f"{upper}+{SIMPLE}", f"{lower}+{SIMPLE}"): (SIDES[upper] // SIDES[lower]).bit_length() - 1
             for upper, lower in layers}
    found, missing = family(evidence, list(pairs))
    sentences, inside, outside = [], 0, 0
    least, most = HALVING_PERCENT
    for pair, comparison in found.items():
        mean = evidence.score(pair[0])
        if mean is None or mean <= 0 or comparison.interval is None:
            continue
        middle, low, high = (_lost_percent(difference, mean, pairs[pair]) for difference in
                             (comparison.difference, comparison.interval.low, comparison.interval.high))
        sentences.append(f"From {pair[0]} to {pair[1]}: {middle:.1f} % each ({low:.1f} to {high:.1f}).")
        inside += enough(comparison) and least <= low <= high <= most
        outside += enough(comparison) and (high < least or low > most)
    return judged(sentences, missing, contradicted=outside > 0, supported=inside == len(pairs))


def ensembles(evidence: Evidence) -> Judged:
    """Gains of every ensemble over the best single model; those with the simple decoder must be there."""
    run = evidence.configurations()
    required = [WINNER, *(f"ensemble+{fusion}+{SIMPLE}" for fusion in FUSIONS)]
    scores = {name: score for name in SINGLE if name in run and (score := evidence.score(name)) is not None}
    if not scores:
        return no_first_gains_much(evidence, [], required)
    best = max(scores, key=lambda name: scores[name])
    return no_first_gains_much(evidence, [(name, best) for name in ENSEMBLES if name in run], required)


def ensemble_cost(evidence: Evidence) -> Judged:
    """Compute of the weighted ensemble over that of the published winner, and memory where both trained on a GPU."""
    ensemble = f"ensemble+weighted+{SIMPLE}"
    missing = tuple(name for name in (WINNER, ensemble) if name not in evidence.configurations())
    ratios = {}
    for what, metric in (("compute", "gflops_per_image"), ("peak memory of training", "train_peak_memory_mb")):
        several, one = evidence.cost(ensemble, metric), evidence.cost(WINNER, metric)
        if several is not None and one:
            ratios[what] = several / one
    sentences = [f"The weighted ensemble takes {ratio:.2f} times the {what}." for what, ratio in ratios.items()]
    if not missing and "compute" not in ratios:
        sentences.append("The compute was not measured.")
    if "compute" in ratios and len(ratios) < 2:
        sentences.append("Memory is not judged: it is known of runs on a GPU alone.")
    least, most = TIMES
    outside = any(not least <= ratio <= most for ratio in ratios.values())
    return judged(sentences, missing, contradicted=outside, supported="compute" in ratios)


def fusion(evidence: Evidence) -> Judged:
    """The three fusions in their published order."""
    return every_first_is_better(evidence, list(itertools.combinations(
        [f"ensemble+{fusion}+{SIMPLE}" for fusion in FUSIONS], 2)))


def half_a_decibel(evidence: Evidence) -> Judged:
    """Whether half a decibel parts the differences that hold up from those that do not.

    That a large difference does not hold up is no proof against the claim: more images may show it. A difference that
    holds up and is surely small, its whole interval within the margin, is one.
    """
    found, missing = family(evidence, list(itertools.combinations(load().configurations, 2)))
    large = {pair: item for pair, item in found.items() if abs(item.difference) > MARGIN_DB}
    small = {pair: item for pair, item in found.items() if pair not in large}
    chance = {pair: item for pair, item in large.items() if not holds_up(item)}
    real = {pair: item for pair, item in small.items() if holds_up(item)}
    sentences = [f"{len(large) - len(chance)} of {len(large)} differences above {MARGIN_DB} dB hold up, and "
                 f"{len(real)} of {len(small)} below."] if found else []
    if real:
        least = min(real, key=lambda pair: abs(real[pair].difference))
        sentences.append(f"The smallest that holds up: {told(least, real[least])}.")
    if chance:
        most = max(chance, key=lambda pair: abs(chance[pair].difference))
        sentences.append(f"The largest that does not: {told(most, chance[most])}.")
    against = [item for item in found.values() if holds_up(item) and enough(item) and _is_surely_small(item)]
    complete = bool(large and small) and not missing and not chance and not real
    return judged(sentences, missing, contradicted=bool(against), supported=complete)


def vit_wavelet(evidence: Evidence) -> Judged:
    """The other decoders against wavelet at ViT-Small's shallowest layer."""
    worst = "vit_small:block1+wavelet"
    return every_first_is_better(evidence, [(f"vit_small:block1+{decoder}", worst) for decoder in DECODERS
                                            if decoder != "wavelet"])


def _is_surely_small(comparison: Comparison) -> bool:
    interval = comparison.interval
    return interval is not None and -MARGIN_DB < interval.low <= interval.high < MARGIN_DB


def _lost_percent(difference: float, mean: float, halvings: int) -> float:
    kept = max(0.0, (mean - difference) / mean)
    return 100 * (1 - float(kept ** (1 / halvings)))
