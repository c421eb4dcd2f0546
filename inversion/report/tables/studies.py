"""Several studies beside each other: what they are, what distinguishes them, their leaderboards, and their differences.

Columns of the n-th study end in ``_n``, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inversion.metrics import Metric
from inversion.report.data.between import Between
from inversion.report.data.board import Board
from inversion.report.data.comparable import title_of
from inversion.report.data.configuration import Configuration
from inversion.report.data.matching import Member, values_of
from inversion.report.stats.seed_noise import describe_noise
from inversion.report.tables.questions import DIFFERENCE, difference_fields
from inversion.report.tables.table import NOTHING, ReportTable, Shown
from inversion.text import first_of
from inversion.text import number as signed

MOST_VALUES = 6
"""Values of a parameter that a cell lists."""

SEEDS_OF_PAIR = ("seeds_a", "seeds_b")
"""Fields of a comparison for which a row has ``seeds_1`` and ``seeds_2``."""

BESIDE = ("The largest group of comparable runs of each study, by test PSNR. Ranks are those within a study: a row is "
          "no comparison.")


def overview(names: Sequence[str], members: Sequence[Sequence[Member]]) -> ReportTable:
    """What each group of comparable runs of each study is, and its best configuration."""
    rows = []
    for name, study in zip(names, members, strict=True):
        for board in dict.fromkeys(member.board for member in study):
            group = next(member.group for member in study if member.board is board)
            seeds = sorted({len(item.runs) for item in board.configurations})
            rows.append({"study": name, "group": title_of(group), "configurations": len(board.configurations),
                         "images": len(board.winner.psnr.table), "seeds": " or ".join(map(str, seeds)),
                         "best": board.winner.label, "psnr": board.winner.psnr.mean,
                         "psnr_std": board.winner.std("psnr")})
    shown = [Shown("study", "{study}"), Shown("what its runs have in common", "{group}"),
             Shown("configurations", "{configurations}"), Shown("test images", "{images}"), Shown("seeds", "{seeds}"),
             Shown("best configuration", "{best}"), Shown("its PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}")]
    return ReportTable("studies", "The studies", shown, rows,
                       "A row for each group of runs that can be ranked together.")


def distinctions(names: Sequence[str], members: Sequence[Sequence[Member]], distinguished: Sequence[str]
                 ) -> ReportTable:
    """The parameters whose values are not the same in all studies.

    ``distinguished`` are those that the configurations of two studies were matched without.
    """
    values = [values_of(study) for study in members]
    differing = [name for name in dict.fromkeys(name for each in values for name in each)
                 if any(each.get(name) != values[0].get(name) for each in values)]
    rows = [{"parameter": name, **{f"values_{number}": _listed(each.get(name, set()))
                                   for number, each in enumerate(values, start=1)},
             "role": "distinguishes" if name in distinguished else "must be equal"} for name in differing]
    shown = [Shown("parameter", "{parameter}"),
             *(Shown(name, f"{{values_{number}}}") for number, name in enumerate(names, start=1)),
             Shown("of a configuration in both", "{role}")]
    return ReportTable("distinctions", "What distinguishes the studies", shown, rows,
                       "Parameters that do not have the same values in all studies. Configurations are matched without "
                       "those of which two studies share no value; the others must be equal on both sides.")


def beside(names: Sequence[str], boards: Sequence[Board | None]) -> ReportTable:
    """The leaderboards of the studies' largest groups beside each other."""
    length = max((len(board.configurations) for board in boards if board), default=0)
    rows: list[dict[str, Any]] = [{"rank": rank} for rank in range(1, length + 1)]
    shown = [Shown("rank", "{rank}")]
    for number, (name, board) in enumerate(zip(names, boards, strict=True), start=1):
        if board is None:
            continue
        for row, item in zip(rows, board.configurations, strict=False):
            row |= _side(item, number)
        shown += [Shown(name, f"{{configuration_{number}}}", ""), _psnr("PSNR (dB)", number, "")]
    return ReportTable("beside", "The leaderboards", shown, rows, BESIDE, frozenset({0} if rows else ()))


def compared(key: str, names: tuple[str, str], found: Between) -> ReportTable:
    """The configurations that two studies have in common, with the differences if scores can be subtracted."""
    rows = [{"configuration": match.name, **_side(match.first.item, 1), **_side(match.second.item, 2),
             "rank_1": ranks[0], "rank_2": ranks[1]}
            for match, ranks in zip(found.matches, found.ranks(), strict=True)]
    for row, comparison in zip(rows, found.comparisons, strict=False):  # none if scores are not subtracted
        fields = {name: value for name, value in difference_fields(comparison).items() if name not in SEEDS_OF_PAIR}
        row |= fields | {"paired": comparison.is_paired, "images": comparison.images}
    first, second = names
    sides = list(enumerate(names, start=1))
    rank = [Shown(f"rank in {name}", f"{{rank_{number}}}") for number, name in sides]
    psnr = [_psnr(f"PSNR (dB), {name}", number) for number, name in sides]
    name = Shown("configuration", "{configuration}")
    seeds = [Shown("seeds", "{seeds_1} and {seeds_2}")]
    if all(row["seeds_1"] == row["seeds_2"] == 1 for row in rows):
        seeds = []
    if found.comparisons:
        shown, more = [name, *psnr, *DIFFERENCE, *seeds], rank
    else:
        shown, more = [name, *(column for pair in zip(rank, psnr, strict=True) for column in pair)], []
    metrics = {name: metric for match in found.matches for side in (match.first, match.second)
               for name, metric in side.item.metrics.items()}
    more = [*more, *_further(metrics, rows, sides)]
    return ReportTable(key, f"{second} against {first}", shown, rows, _note(names, found), more=more)


def _side(item: Configuration, number: int) -> dict[str, Any]:
    """The scores of a configuration in the study of that number."""
    row: dict[str, Any] = {"configuration": item.label, "seeds": len(item.runs)}
    for metric in item.metrics:
        row |= {metric: item.mean(metric), f"{metric}_std": item.std(metric)}
    row["runs"] = " ".join(run.run_id for run in item.runs.values())
    return {f"{name}_{number}": value for name, value in row.items()}


def _psnr(title: str, side: int, otherwise: str = NOTHING) -> Shown:
    return Shown(title, f"{{psnr_{side}:.2f}} ± {{psnr_std_{side}:.2f}}", otherwise)


def _further(metrics: Mapping[str, Metric], rows: Sequence[Mapping[str, Any]], sides: Sequence[tuple[int, str]]
             ) -> list[Shown]:
    """The columns of the other metrics that both studies have."""
    return [Shown(f"{metric.label}, {name}", f"{{{key}_{number}:.{metric.digits}f}}")
            for key, metric in metrics.items() if key != "psnr"
            and all(any(row.get(f"{key}_{side}") is not None for row in rows) for side, _ in sides)
            for number, name in sides]


def _note(names: tuple[str, str], found: Between) -> str:
    first, second = names
    one, other = found.images
    ranks = f"Ranks are those within each study, among the {len(found.matches)} configurations of both."
    if found.agreement is not None:
        ranks += f" Their rank correlation (Spearman) is {signed(found.agreement, '+.2f')}."
    if found.apart:
        return f"Scores are not subtracted: {' and '.join(found.apart)}. {ranks}"
    if found.is_paired:
        how = (f"Difference: {second} minus {first}, paired by test image (both were scored on the same {one}), with "
               "its 95 % interval and the p of a paired t test")
    else:
        how = (f"Difference: {second} minus {first}, not paired: the test images are not known to be the same ({one} "
               f"and {other}), so that it may be due to the images as well as to the training. Its 95 % interval and p "
               "are those of Welch's t test")
    noise = (f"that includes other trainings ({describe_noise(found.noise)} of both studies)" if found.noise else
             "for the trained networks: every configuration has one seed, and nothing is known of other trainings")
    return f"{how}, {noise}. p is corrected for the rows of this table (Holm). {ranks}"


def _listed(values: set[str]) -> str:
    return first_of(sorted(values, key=_by_number), MOST_VALUES)


def _by_number(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text
