"""Findings of published studies, judged by our runs: evidence, verdicts, and rules for common kinds of claims.

What is not clearly seen is undecided. Each rule compares a family of pairs, Holm-corrected within it. The protocols may
differ: whether a finding of the published protocol still holds in image space is a question of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from inversion.report.data.board import Board
from inversion.report.stats.comparisons import Comparison, compare_pools, correct, holds_up, trainings_differ
from inversion.report.stats.pools import SeedPool
from inversion.report.stats.seed_noise import SeedNoise
from inversion.report.tables.table import ReportTable, Shown
from inversion.text import first_of, number

Pair = tuple[str, str]


class Evidence(Protocol):
    """Comparable runs by configuration (``vgg16:block1+wavelet``)."""

    def configurations(self) -> Collection[str]:
        """Configurations with test scores."""

    def score(self, configuration: str) -> float | None:
        """Mean test PSNR in dB; None if it was not run."""

    def validation(self, configuration: str) -> float | None:
        """Mean validation PSNR in dB; None if it was not run or not validated."""

    def compare(self, a: str, b: str) -> Comparison | None:
        """PSNR of ``a`` minus ``b``, paired by image, not corrected; None if one was not run."""

    def cost(self, configuration: str, metric: str) -> float | None:
        """A metric of the run (``gflops_per_image``, ``train_peak_memory_mb``); None if it is not known.

        Memory is unknown if it is not the run's own, for example on a CPU.
        """


class Verdict(StrEnum):
    """What our runs say about a published finding."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judged:
    """A verdict, the evidence in sentences with numbers, and the configurations that were not run."""

    verdict: Verdict
    evidence: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A claim of a published study.

    Attributes:
        name: Short name.
        section: The section of the paper.
        claim: The claim, in our words.
        criterion: The rule, in words.
        rule: Judges the claim.
    """

    name: str
    section: str
    claim: str
    criterion: str
    rule: Callable[[Evidence], Judged]


@dataclass(frozen=True)
class Judgement:
    """A finding with its verdict, the evidence in sentences, and the configurations that were not run."""

    finding: Finding
    verdict: Verdict
    evidence: str
    missing: tuple[str, ...]


class BoardEvidence:
    """The configurations of a board by plain name; of several variants, the one that the board chose.

    ``pools`` replaces the scores of configurations, by label, and ``noise`` then the seed noise. ``compared`` collects
    the labels of what was compared.
    """

    def __init__(self, board: Board, pools: Mapping[str, SeedPool] | None = None, noise: SeedNoise | None = None,
                 ) -> None:
        self.board = board
        self.pools = pools or {}
        self.noise = board.noise if pools is None else noise
        self.compared: set[str] = set()

    def configurations(self) -> Collection[str]:
        """Configurations with test scores."""
        return self.board.chosen

    def score(self, configuration: str) -> float | None:
        """Mean test PSNR in dB; None if it was not run."""
        item = self.board.chosen.get(configuration)
        return item.psnr.mean if item else None

    def validation(self, configuration: str) -> float | None:
        """Mean validation PSNR in dB; None if it was not run or not validated."""
        item = self.board.chosen.get(configuration)
        return item.best_validation if item else None

    def compare(self, a: str, b: str) -> Comparison | None:
        """PSNR of ``a`` minus ``b``, paired by image, not corrected; None if one was not run."""
        first, second = self.board.chosen.get(a), self.board.chosen.get(b)
        if first is None or second is None:
            return None
        self.compared.update((first.label, second.label))
        one, other = (self.pools.get(item.label, item.psnr) for item in (first, second))
        return compare_pools(one, other, self.noise)

    def cost(self, configuration: str, metric: str) -> float | None:
        """A metric of the run; None if it is not known."""
        item = self.board.chosen.get(configuration)
        return item.own_cost(metric) if item else None


def judge_findings(findings: Sequence[Finding], evidence: Evidence) -> list[Judgement]:
    """Judges every finding by runs that can be compared with each other."""
    found = [(finding, finding.rule(evidence)) for finding in findings]
    return [Judgement(finding, judged.verdict, judged.evidence, judged.missing) for finding, judged in found]


def findings_table(judgements: Mapping[str, Sequence[Judgement]], note: str = "") -> ReportTable:
    """Every finding with its verdict, evidence and criterion; ``judgements`` are by the key of the paper."""
    several = len(judgements) > 1
    rows = [{**({"study": study} if several else {}),
             "name": item.finding.name, "section": item.finding.section, "finding": item.finding.claim,
             "verdict": str(item.verdict), "evidence": item.evidence, "criterion": item.finding.criterion,
             "missing": " ".join(item.missing)} for study, items in judgements.items() for item in items]
    names = ("study", "section", "finding", "verdict", "evidence", "criterion")
    return ReportTable("findings", "Published findings, judged by these runs",
                       [Shown(name, f"{{{name}}}") for name in names[not several:]], rows, note)


def every_first_is_better(evidence: Evidence, pairs: Sequence[Pair]) -> Judged:
    """Claim: in every pair, the first has a higher PSNR than the second.

    Supported if every difference holds up, contradicted if the opposite of one holds up, undecided otherwise.
    """
    found, missing = family(evidence, pairs)
    if one_seed := of_trainings(found):
        return verdict_of([one_seed], missing)
    held = {pair: item for pair, item in found.items() if holds_up(item) and item.difference > 0}
    opposed = {pair: item for pair, item in found.items() if holds_up(item) and item.difference < 0}
    unclear = {pair: item for pair, item in found.items() if pair not in held and pair not in opposed}
    sentences = [f"{len(held)} of {len(pairs)} differences hold up as claimed{_nearest(held)}."] if found else []
    if opposed:
        most = min(opposed, key=lambda pair: opposed[pair].difference)
        sentences.append(f"{_hold_up(len(opposed))} the other way; the largest: "
                         f"{describe(most[::-1], opposed[most].reversed())}.")
    if unclear:
        most = max(unclear, key=lambda pair: abs(unclear[pair].difference))
        sentences.append(f"{len(unclear)} are not established; the largest: {describe(most, unclear[most])}.")
    return verdict_of(sentences, missing, contradicted=bool(opposed), supported=len(held) == len(pairs))


def no_first_gains_much(evidence: Evidence, margin: float, pairs: Sequence[Pair], required: Sequence[str] = (),
                        ) -> Judged:
    """Claim: in no pair, the first is more than ``margin`` dB above the second.

    The intervals hold together for all pairs. Supported if every one is entirely below the margin, contradicted if one
    is entirely above it. Undecided otherwise, if a ``required`` configuration was not run, or if the seed noise is not
    known.
    """
    found, missing = family(evidence, pairs, required)
    if not found:
        return verdict_of([], missing)
    if one_seed := of_trainings(found):
        return verdict_of([one_seed], missing)
    between = {pair: item.simultaneous for pair, item in found.items() if item.is_decidable}
    much = {pair: found[pair] for pair, interval in between.items() if interval and interval.low > margin}
    little = [pair for pair, interval in between.items() if interval and interval.high < margin]
    most = max(much or found, key=lambda pair: found[pair].difference)
    sentences = [f"The largest gain: {describe(most, found[most])}.",
                 f"{len(little)} of {len(found)} gains are surely below {margin} dB, {len(much)} surely above."]
    return verdict_of(sentences, missing, contradicted=bool(much), supported=len(little) == len(found) and not missing)


def of_trainings(found: Mapping[Pair, Comparison]) -> str:
    """A sentence on pairs of which one training each is all that is known; empty if the seed noise is known."""
    if not found or any(item.noise is not None for item in found.values()):
        return ""
    differing = sum(trainings_differ(item) for item in found.values())
    most = max(found, key=lambda pair: abs(found[pair].difference))
    return (f"One seed each: {differing} of {len(found)} pairs of trained networks differ, which says nothing of other "
            f"trainings. The largest difference: {describe(most, found[most])}.")


def family(evidence: Evidence, pairs: Sequence[Pair], required: Sequence[str] = (),
           ) -> tuple[dict[Pair, Comparison], tuple[str, ...]]:
    """The possible comparisons, corrected as one family, and the configurations that were not run."""
    run = evidence.configurations()
    names = dict.fromkeys([*required, *(name for pair in pairs for name in pair)])
    found = {pair: comparison for pair in pairs
             if pair[0] in run and pair[1] in run and (comparison := evidence.compare(*pair)) is not None}
    return correct(found), tuple(name for name in names if name not in run)


def describe(pair: Pair, comparison: Comparison) -> str:
    """``vgg16:block1+wavelet minus vgg16:block1+attention: +0.31 dB (+0.21 to +0.41, p = 0.0012, 100 images)``."""
    between = ""
    if comparison.interval is not None:
        between = f"{number(comparison.interval.low, '+.2f')} to {number(comparison.interval.high, '+.2f')}, "
    images = f"{comparison.images} image{'s' if comparison.images != 1 else ''}"
    return (f"{pair[0]} minus {pair[1]}: {number(comparison.difference, '+.2f')} dB ({between}p = {comparison.p:.2g}, "
            f"{images})")


def verdict_of(sentences: Sequence[str], missing: Sequence[str], *, contradicted: bool = False, supported: bool = False,
               ) -> Judged:
    """A verdict with its evidence; what was not run comes last."""
    verdict = Verdict.CONTRADICTED if contradicted else Verdict.SUPPORTED if supported else Verdict.UNDECIDED
    lacking = [f"Not run: {first_of(missing, 4)}."] if missing else []
    return Judged(verdict, " ".join([*sentences, *lacking]), tuple(missing))


def _nearest(held: Mapping[Pair, Comparison]) -> str:
    if not held:
        return ""
    least = min(held, key=lambda pair: held[pair].difference)
    return f"; the smallest: {describe(least, held[least])}" if len(held) > 1 else f": {describe(least, held[least])}"


def _hold_up(count: int) -> str:
    return f"{count} {'hold' if count > 1 else 'holds'} up"
