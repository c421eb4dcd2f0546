"""A table of every figure of a published study: section, value, and the corresponding value of our runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.study import StudyData, shared_parameters
from inversion.report.published._figures import Figure, Figures, Table, section_order
from inversion.report.stats.comparisons import outcome
from inversion.report.tables.published import published_note
from inversion.report.tables.table import ReportTable, Shown

FIELDS = {"rank": ("rank", ""), "psnr": ("PSNR", "dB"), "psnr_std": ("PSNR, standard deviation", "dB"),
          "ssim": ("SSIM", ""), "ssim_std": ("SSIM, standard deviation", ""), "eval_minutes": ("evaluation", "min"),
          "train_minutes": ("training", "min"), "resolution": ("resolution", "px"), "locations": ("locations", ""),
          "degradation_percent": ("degradation", "%"), "gain_db": ("gain over the single model", "dB"),
          "encoder_passes": ("encoder passes", ""), "memory_gb": ("memory", "GB"),
          "cost_per_db": ("cost per dB", "times"), "ssim_rank": ("rank by SSIM", ""), "ranked": ("ranked", "")}
"""Title and unit of each column of a published table."""

NO_COUNTERPART = "no counterpart"

VERDICTS = {"yes": "holds up", "one seed": "one seed: undecided", "no": "not established"}
"""By the outcome of a comparison."""

Line = dict[str, Any]
Ours = Callable[[], float | None]


@dataclass(frozen=True)
class Counterparts:
    """What our runs have for the figures of one paper that are not in a table of scores.

    Attributes:
        parameters: The parameters of a run, which all have the value, by the name of a figure in the text.
        splits: Our splits, by the name of a figure that counts images.
        values: Our values, by the name of a figure in the text and its unit.
        not_defined: Columns of tables that the paper does not define.
    """

    parameters: Mapping[str, Sequence[str]] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    values: Callable[[StudyData, Board], Mapping[tuple[str, str], Ours]] = lambda data, board: {}
    not_defined: frozenset[str] = frozenset()


def figure_table(key: str, figures: Figures, counterparts: Counterparts, data: StudyData, board: Board,
                 ) -> ReportTable:
    """Every figure of a study with its section, and the corresponding value of our runs."""
    here = dict(zip(("protocol", "data", "weights"), board.group, strict=False))
    made_with = {"published_protocol": figures.protocol, "published_data": figures.data,
                 "here_protocol": here["protocol"], "here_data": here["data"]}
    lines = [*_of_tables(figures, counterparts, board), *_of_comparisons(figures, board),
             *_of_improvements(figures, board), *_of_recommendations(figures, board),
             *_of_the_summary(figures, data, board), *_of_the_text(figures, counterparts, data, board)]
    rows = [{**line, **made_with} for line in sorted(lines, key=lambda line: section_order(line["section"]))]
    shown = [Shown("section", "{section}"), Shown("what", "{what}"),
             Shown("published", "{published:,.6g}", why="told"), Shown("here", "{here:,.4g}", why="why"),
             Shown("unit", "{unit}")]
    note = (f"{published_note(key, figures.conditions, board)} \"not run\": the required runs do not exist; "
            "\"no counterpart\": our runs do not measure it.")
    return ReportTable(f"{key}-figures", f"Every {key} figure", shown, rows, f"{note} {board.choice}".strip())


def _line(section: str, what: str, published: float, unit: str, here: float | None, why: str = "not run") -> Line:
    return {"section": section, "what": what, "published": published, "unit": unit, "here": here,
            "why": why if here is None else None}


def _of_tables(figures: Figures, counterparts: Counterparts, board: Board) -> Iterator[Line]:
    for table in figures.tables:
        for row in table.rows:
            ours = board.chosen.get(row.configuration)
            for name, value in row.model_dump(exclude_none=True).items():
                if name in FIELDS:
                    title, unit = FIELDS[name]
                    here = _ours(figures, board, table, ours, name) if ours else None
                    why = "not defined" if name in counterparts.not_defined else "not measured" if ours else "not run"
                    yield _line(table.section, f"{table.title}: {row.configuration}: {title}", value, unit, here, why)


def _ours(figures: Figures, board: Board, table: Table, item: Configuration, name: str) -> float | None:
    first = board.chosen.get(table.rows[0].configuration)
    reference = board.chosen.get(figures.winner)
    alike = board.ensembles if item.is_ensemble else board.single
    ways: Mapping[str, Callable[[], float | None]] = {
        "rank": lambda: alike.index(item) + 1, "ssim_rank": lambda: _by_ssim(alike).index(item) + 1,
        "ranked": lambda: len(alike),
        "psnr": lambda: item.psnr.mean, "psnr_std": lambda: item.std("psnr"),
        "ssim": lambda: item.mean("ssim"), "ssim_std": lambda: item.std("ssim"),
        "eval_minutes": lambda: _scaled(item.cost("eval_seconds"), 60),
        "train_minutes": lambda: _scaled(item.cost("train_seconds"), 60),
        "memory_gb": lambda: _scaled(item.own_cost("train_peak_memory_mb"), 1024),
        "locations": lambda: item.cost("feature_locations"),
        "resolution": lambda: _scaled(item.cost("feature_locations"), 1, math.sqrt),
        "encoder_passes": lambda: item.cost("encoder_passes"),
        "degradation_percent": lambda: _percent(item.psnr.mean, first.psnr.mean if first else None),
        "gain_db": lambda: item.psnr.mean - reference.psnr.mean if reference else None,
    }
    return ways[name]() if name in ways else None


def _by_ssim(items: Sequence[Configuration]) -> list[Configuration]:
    return sorted(items, key=lambda item: -(item.mean("ssim") or 0.0))


def _of_comparisons(figures: Figures, board: Board) -> Iterator[Line]:
    for item in figures.comparisons:
        a, b = board.chosen.get(item.a), board.chosen.get(item.b)
        found = board.compare_alone(a, b) if a and b else None
        pair = f"{item.a} minus {item.b}"
        yield _line(item.section, pair, item.difference, "dB", found.difference if found else None)
        verdict = None if found is None else VERDICTS[outcome(found)]
        yield {"section": item.section, "what": f"{pair}: significant", "published": None, "here": None,
               "told": "yes" if item.significant else "no", "why": verdict or "not run", "unit": ""}


def _of_improvements(figures: Figures, board: Board) -> Iterator[Line]:
    start, end = board.chosen.get(figures.baseline), board.chosen.get(figures.winner)
    for item in figures.improvements:
        title, unit = FIELDS[item.metric]
        before, after = (_value(other, item.metric) for other in (start, end))
        remark = f" ({item.remark})" if item.remark else ""
        yield _line(item.section, f"{title}, {figures.baseline}{remark}", item.initial, unit, before)
        yield _line(item.section, f"{title}, {figures.winner}", item.final, unit, after)
        yield _line(item.section, f"{title}, change", item.percent, "%", _percent(after, before))


def _of_recommendations(figures: Figures, board: Board) -> Iterator[Line]:
    for item in figures.recommendations:
        ours = board.chosen.get(item.configuration or "")
        for name in ("psnr", "ssim", "memory_gb", "eval_minutes"):
            value = getattr(item, name)
            if value is not None:
                title, unit = FIELDS[name]
                yield _line(item.section, f"{item.advice}: {item.configuration}: {title}", value, unit,
                            _value(ours, name), "not measured" if ours else "not run")


def _of_the_summary(figures: Figures, data: StudyData, board: Board) -> Iterator[Line]:
    summary = figures.summary
    if summary is None:
        return
    oom = sum(run.tags.get("inversion.failure") == "oom" for run in data.having("FAILED"))
    best, single, worst = board.winner, board.single, board.configurations[-1]
    for what, published, here, unit in (
        ("configurations", summary.configurations, len(data.runs) + len(data.missing), ""),
        ("successful", summary.successful, len(data.having("FINISHED")), ""),
        ("out of memory", summary.out_of_memory, oom, ""),
        ("best PSNR", summary.best_psnr, best.psnr.mean, "dB"),
        ("best PSNR of a single model", summary.best_single_psnr, single[0].psnr.mean if single else None, "dB"),
        ("range of PSNR", summary.psnr_range, best.psnr.mean - worst.psnr.mean, "dB"),
        ("hours of a GPU (here: of the machines)", summary.gpu_hours, data.hours, "h"),
    ):
        yield _line(summary.section, f"summary: {what}", published, unit, here)


def _of_the_text(figures: Figures, counterparts: Counterparts, data: StudyData, board: Board) -> Iterator[Line]:
    values = counterparts.values(data, board)
    for figure in figures.figures:
        here, why = _in_text(figure, counterparts, values, data, board)
        yield _line(figure.section, f"in the text: {figure.what}", figure.value, figure.unit, here, why)


def _in_text(figure: Figure, counterparts: Counterparts, values: Mapping[tuple[str, str], Ours], data: StudyData,
             board: Board) -> tuple[float | None, str]:
    """Our value for a figure from the text, or None with the reason."""
    if names := counterparts.parameters.get(figure.what):
        shared = shared_parameters(data.runs)
        ours = {shared.get(name) for name in names}
        value = ours.pop()
        return (float(value), "") if not ours and isinstance(value, int | float) else (None, "several values")
    if figure.what in counterparts.splits and not figure.unit:
        images = _first(board.winner).get("images", {}).get(counterparts.splits[figure.what])
        return (None if images is None else float(images)), NO_COUNTERPART
    way = values.get((figure.what, figure.unit))
    return (way(), "not run") if way else (None, NO_COUNTERPART)


def _first(item: Configuration) -> Mapping[str, Mapping[str, int]]:
    """The data set of the first run of a configuration."""
    data: Mapping[str, Mapping[str, int]] = next(iter(item.runs.values())).document.get("data", {})
    return data


def _value(item: Configuration | None, metric: str) -> float | None:
    if item is None:
        return None
    match metric:
        case "psnr" | "ssim":
            return item.mean(metric)
        case "memory_gb":
            return _scaled(item.own_cost("train_peak_memory_mb"), 1024)
        case "train_minutes":
            return _scaled(item.cost("train_seconds"), 60)
    return _scaled(item.cost("eval_seconds"), 60)


def _scaled(value: float | None, by: float, then: Callable[[float], float] = float) -> float | None:
    return None if value is None else then(value / by)


def _percent(after: float | None, before: float | None) -> float | None:
    return 100 * (after / before - 1) if after is not None and before else None
