"""How a claim is judged: the evidence it needs, the three verdicts, and the kinds of claims there are.

Every kind judges a family of comparisons together, Holm-corrected within it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from inversion.report.stats.statistics import Comparison, correct, holds_up

Pair = tuple[str, str]

MARGIN_DB = 0.5
"""What the published study takes for a difference that counts."""

FEWEST_IMAGES = 6
"""With fewer no test can be below 0.05 (five of five alike: p = 0.0625), and an interval rests on next to nothing."""


class Evidence(Protocol):
    """Runs that can be compared with each other, by configuration (``vgg16:block1+wavelet``)."""

    def configurations(self) -> Collection[str]:
        """Those with test scores."""

    def score(self, configuration: str) -> float | None:
        """Mean test PSNR in dB; None if it was not run."""

    def compare(self, a: str, b: str) -> Comparison | None:
        """PSNR of ``a`` less that of ``b``, paired by image, not corrected; None if one was not run."""

    def cost(self, configuration: str, metric: str) -> float | None:
        """A metric of the whole run (``gflops_per_image``, ``train_peak_memory_mb``); None if it is not known.

        Memory is not known where it is not the run's own, as on a CPU.
        """


class Verdict(StrEnum):
    """What our runs say of a published finding."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Judged:
    """A verdict, the evidence for it in sentences with numbers, and the configurations that were not run."""

    verdict: Verdict
    evidence: str
    missing: tuple[str, ...] = ()


def every_first_is_better(evidence: Evidence, pairs: Sequence[Pair]) -> Judged:
    """Claim: in every pair the first has more PSNR than the second.

    Supported if every difference holds up, contradicted if the opposite of one does, undecided otherwise.
    """
    found, missing = family(evidence, pairs)
    held = {pair: item for pair, item in found.items() if holds_up(item) and item.difference > 0}
    opposed = {pair: item for pair, item in found.items() if holds_up(item) and item.difference < 0}
    unclear = {pair: item for pair, item in found.items() if pair not in held and pair not in opposed}
    sentences = [f"{len(held)} of {len(pairs)} differences hold up as claimed{_nearest(held)}."] if found else []
    if opposed:
        most = min(opposed, key=lambda pair: opposed[pair].difference)
        sentences.append(f"{_hold_up(len(opposed))} the other way; the largest: "
                         f"{told(most[::-1], opposed[most].reversed())}.")
    if unclear:
        most = max(unclear, key=lambda pair: abs(unclear[pair].difference))
        sentences.append(f"{len(unclear)} may be chance; the largest: {told(most, unclear[most])}.")
    return judged(sentences, missing, contradicted=bool(opposed), supported=len(held) == len(pairs))


def no_first_gains_much(evidence: Evidence, pairs: Sequence[Pair], required: Sequence[str] = ()) -> Judged:
    """Claim: in no pair the first has more than ``MARGIN_DB`` over the second.

    Supported if the whole interval of every difference lies below the margin, contradicted if that of one lies above it
    and the difference holds up, undecided otherwise, or if a ``required`` configuration was not run, or on fewer than
    ``FEWEST_IMAGES`` test images.
    """
    found, missing = family(evidence, pairs, required)
    if not found:
        return judged([], missing)
    much = {pair: item for pair, item in found.items()
            if holds_up(item) and item.interval is not None and item.interval.low > MARGIN_DB}
    little = [item for item in found.values() if enough(item) and item.interval and item.interval.high < MARGIN_DB]
    most = max(much or found, key=lambda pair: found[pair].difference)
    sentences = [f"The largest gain: {told(most, found[most])}.",
                 f"{len(little)} of {len(found)} gains are surely below {MARGIN_DB} dB, {len(much)} surely above."]
    return judged(sentences, missing, contradicted=bool(much), supported=len(little) == len(found) and not missing)


def enough(comparison: Comparison) -> bool:
    """Whether there are test images enough for a verdict by intervals."""
    return comparison.images >= FEWEST_IMAGES


def family(evidence: Evidence, pairs: Sequence[Pair], required: Sequence[str] = (),
           ) -> tuple[dict[Pair, Comparison], tuple[str, ...]]:
    """The comparisons that can be made, corrected together, and the configurations that were not run."""
    run = evidence.configurations()
    names = dict.fromkeys([*required, *(name for pair in pairs for name in pair)])
    found = {pair: comparison for pair in pairs
             if pair[0] in run and pair[1] in run and (comparison := evidence.compare(*pair)) is not None}
    return correct(found), tuple(name for name in names if name not in run)


def told(pair: Pair, comparison: Comparison) -> str:
    """``vgg16:block1+wavelet less vgg16:block1+attention: +0.31 dB (+0.21 to +0.41, p = 0.0012, 100 images)``."""
    between = ""
    if comparison.interval is not None:
        between = f"{comparison.interval.low:+.2f} to {comparison.interval.high:+.2f}, "
    p = comparison.p if comparison.p_corrected is None else comparison.p_corrected
    images = f"{comparison.images} image{'s' if comparison.images != 1 else ''}"
    return f"{pair[0]} less {pair[1]}: {comparison.difference:+.2f} dB ({between}p = {p:.2g}, {images})"


def judged(sentences: Sequence[str], missing: Sequence[str], *, contradicted: bool = False, supported: bool = False,
           most: int = 4) -> Judged:
    """A verdict with its evidence, at the end of which stands what was not run."""
    verdict = Verdict.CONTRADICTED if contradicted else Verdict.SUPPORTED if supported else Verdict.UNDECIDED
    more = f" and {len(missing) - most} more" if len(missing) > most else ""
    lacking = [f"Not run: {', '.join(missing[:most])}{more}."] if missing else []
    return Judged(verdict, " ".join([*sentences, *lacking]), tuple(missing))


def _nearest(held: Mapping[Pair, Comparison]) -> str:
    if not held:
        return ""
    least = min(held, key=lambda pair: held[pair].difference)
    return f"; the smallest: {told(least, held[least])}" if len(held) > 1 else f": {told(least, held[least])}"


def _hold_up(count: int) -> str:
    return f"{count} {'hold' if count > 1 else 'holds'} up"
