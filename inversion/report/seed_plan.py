"""Which configurations need more seeds to decide what is undecided, and how many.

Every rule is applied again as if the configurations had more seeds: the means and the seed noise stay what they are,
and the standard errors shrink. A plan is therefore an expectation, not a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.stats.comparisons import AllPairs, compare_pools, correct, holds_up
from inversion.report.stats.pools import SeedPool
from inversion.report.stats.seed_noise import SeedNoise
from inversion.report.tables.findings import BoardEvidence, Verdict
from inversion.report.tables.published import PublishedStudy
from inversion.report.tables.values import compared_labels

MOST_SEEDS = 5

ASSUMED_SD = 0.12
"""dB between trainings, for a study with one seed of each, where no published study says how much it is."""

Pools = Mapping[str, SeedPool]


@dataclass(frozen=True)
class SeedPlan:
    """What more seeds are expected to decide.

    Attributes:
        seeds: Seeds that each of ``configurations`` should have; 0 if more seeds are not expected to decide anything.
        configurations: The configurations with fewer seeds than that.
        decides: Number of open questions that would be decided.
        undecided: Number of open questions: findings of published studies, whether the winner is better than the
            second, and whether resolution or number of values matters within a layer.
        noise: The seed noise that the plan reckons with.
        is_given: Whether that noise was given; else it was measured, or is assumed.
    """

    seeds: int
    configurations: tuple[Configuration, ...]
    decides: int
    undecided: int
    noise: SeedNoise
    is_given: bool = False


@dataclass(frozen=True)
class _Question:
    """Whether it is decided by evidence, and the configurations that it depends on, by label."""

    is_decided: Callable[[Pools, SeedNoise | None], bool]
    labels: frozenset[str]


def plan_seeds(board: Board, studies: Sequence[PublishedStudy] = (), most: int = MOST_SEEDS) -> SeedPlan | None:
    """The fewest seeds that decide as many open questions as ``most`` seeds do; None if nothing is open."""
    pools = {item.label: item.psnr for item in board.configurations}
    questions = [*_findings(board, studies), *_lead(board), *_values(board)]
    undecided = [question for question in questions if not question.is_decided(pools, board.noise)]
    if not undecided:
        return None
    best: SeedPlan | None = None
    noise = board.noise or _assumed(studies)
    for seeds in range(2, most + 1):
        decided = [question for question in undecided
                   if question.is_decided(*_with_seeds(board, pools, question.labels, seeds, noise))]
        if decided and (best is None or len(decided) > best.decides):
            labels = frozenset().union(*(question.labels for question in decided))
            lacking = tuple(item for item in board.configurations if item.label in labels and len(item.runs) < seeds)
            best = SeedPlan(seeds, lacking, len(decided), len(undecided), noise, board.seed_sd is not None)
    return best or SeedPlan(0, (), 0, len(undecided), noise)


def describe_plan(plan: SeedPlan) -> str:
    """What is undecided, and what would decide it."""
    open_questions = f"{plan.undecided} question{'s are' if plan.undecided > 1 else ' is'} undecided"
    if not plan.seeds:
        return (f"{open_questions}: up to {MOST_SEEDS} seeds are not expected to decide any; still more, or more test "
                "images, may")
    count = len(plan.configurations)
    noise = "measured" if plan.noise.configurations else "given" if plan.is_given else "assumed"
    return (f"{open_questions}. {plan.seeds} seeds for {count} configuration{'s' if count > 1 else ''} are expected to "
            f"decide {plan.decides}, with the present means and a seed noise of {plan.noise.sd:.2f} dB ({noise})")


def _assumed(studies: Sequence[PublishedStudy]) -> SeedNoise:
    """The seed noise according to the first published study that says it."""
    return SeedNoise(next((study.seed_sd for study in studies if study.seed_sd is not None), ASSUMED_SD))


def _with_seeds(board: Board, pools: Pools, labels: Collection[str], seeds: int, noise: SeedNoise,
                ) -> tuple[Pools, SeedNoise]:
    """The pools as if these configurations had so many seeds, with the seed noise of such a study."""
    planned = {label: pool.as_if(max(seeds, pool.n)) if label in labels else pool for label, pool in pools.items()}
    measured = board.noise is None or noise.configurations > 0
    return planned, noise.planned([*planned.values()]) if measured else noise


def _lead(board: Board) -> list[_Question]:
    """Whether the winner is better than the second."""
    if len(board.configurations) < 2:
        return []
    first, second = (item.label for item in board.configurations[:2])
    return [_Question(lambda pools, noise: holds_up(AllPairs(pools, noise).get(first, second)),
                      frozenset({first, second}))]


def _values(board: Board) -> list[_Question]:
    """The comparisons within one layer of the table of resolution and number of values."""
    pairs = compared_labels(board)

    def is_decided(pools: Pools, noise: SeedNoise | None, pair: tuple[str, str]) -> bool:
        family = correct({(a, b): compare_pools(pools[a], pools[b], noise) for a, b in pairs})
        return holds_up(family[pair])

    return [_Question(partial(is_decided, pair=pair), frozenset(pair)) for pair, same_layer in pairs.items()
            if same_layer]


def _findings(board: Board, studies: Sequence[PublishedStudy]) -> list[_Question]:
    """The findings of published studies whose configurations were all run."""
    questions = []
    for study in studies:
        view = study.view(board)
        for finding in study.findings:
            evidence = BoardEvidence(view)
            judged = finding.rule(evidence)
            if judged.missing or not evidence.compared:
                continue
            questions.append(_Question(
                lambda pools, noise, rule=finding.rule, view=view: rule(  # type: ignore[misc]
                    BoardEvidence(view, pools, noise)).verdict is not Verdict.UNDECIDED,
                frozenset(evidence.compared)))
    return questions
