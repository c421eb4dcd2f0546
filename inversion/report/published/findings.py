"""The findings of the published study, each marked supported, contradicted or undecided by our own runs.

A rule for each finding says what must be seen for either verdict; what is not clearly seen is undecided. The protocols
may differ: that a finding of the published protocol fails in image space is exactly what one wants to know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inversion.report.published.finding_kinds import Evidence, Judged, Verdict
from inversion.report.published.finding_rules import (
    architecture,
    best_single,
    depth,
    ensemble_cost,
    ensembles,
    fusion,
    half_a_decibel,
    halving,
    resolution,
    simplest_best,
    simplicity,
    vit_wavelet,
)

__all__ = ["FINDINGS", "Evidence", "Finding", "Judgement", "Verdict", "judge_finding",
           "judge_findings"]


@dataclass(frozen=True)
class Finding:
    """A claim of the study in our words, its section, and the rule that judges it, told as ``criterion``."""

    name: str
    section: str
    claim: str
    criterion: str
    rule: Callable[[Evidence], Judged]


@dataclass(frozen=True)
class Judgement:
    """What our runs say of a finding: ``evidence`` in sentences with numbers, ``missing`` what was not run for it."""

    finding: Finding
    verdict: Verdict
    evidence: str
    missing: tuple[str, ...]


_EVERY = "contradicted if one difference holds up the other way."
_FEW = "Undecided on fewer than six test images."

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
    Finding("ensemble_cost", "4.6", "An ensemble of four takes four times the compute and four times the memory.",
            "With transposed_conv, GFLOPs for an image, and peak memory of training where both ran on a GPU, are 3 to "
            "5 times those of vgg16:block1; contradicted if one of them is not.", ensemble_cost),
    Finding("fusion", "4.6", "Weighted fusion is better than attention, and attention better than concatenation.",
            f"With transposed_conv, all three differences hold up in this order; {_EVERY}", fusion),
    Finding("half_a_decibel", "5.3", "Differences above 0.5 dB are significant and smaller ones are not.",
            "Among the 20 configurations with published figures, all differences above 0.5 dB hold up and none below "
            "does; contradicted if one holds up whose whole interval lies within 0.5 dB. " + _FEW, half_a_decibel),
    Finding("vit_wavelet", "4.4", "At vit_small:block1 the wavelet decoder is the worst.",
            f"The three other decoders are ahead of it there, and that holds up; {_EVERY}", vit_wavelet),
)


def judge_finding(finding: Finding, evidence: Evidence) -> Judgement:
    """Judges one finding by runs that can be compared with each other."""
    judged = finding.rule(evidence)
    return Judgement(finding, judged.verdict, judged.evidence, judged.missing)


def judge_findings(evidence: Evidence) -> list[Judgement]:
    """Judges every finding; none is left out."""
    return [judge_finding(finding, evidence) for finding in FINDINGS]
