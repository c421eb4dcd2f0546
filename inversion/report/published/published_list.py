"""One table of every figure that the study published: where, what, and what these runs have in its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from inversion.report.data.board import Board
from inversion.report.data.configuration import Configuration
from inversion.report.data.study_data import StudyData
from inversion.report.published.finding_rules import WINNER
from inversion.report.published.published import Row, Table, load
from inversion.report.published.published_figures import beside_note
from inversion.report.published.spoken_figures import spoken
from inversion.report.stats.statistics import holds_up
from inversion.report.tables.questions import BASELINE
from inversion.report.tables.table import ReportTable, Shown

FIELDS = {"rank": ("rank", ""), "psnr": ("PSNR", "dB"), "psnr_std": ("PSNR, standard deviation", "dB"),
          "ssim": ("SSIM", ""), "ssim_std": ("SSIM, standard deviation", ""), "eval_minutes": ("evaluation", "min"),
          "train_minutes": ("training", "min"), "resolution": ("resolution", "px"), "locations": ("locations", ""),
          "degradation_percent": ("degradation", "%"), "gain_db": ("gain over the single model", "dB"),
          "encoder_passes": ("encoder passes", ""), "memory_gb": ("memory", "GB"),
          "cost_per_db": ("cost per dB", "times"), "ssim_rank": ("rank by SSIM", ""), "ranked": ("ranked", "")}
"""The columns of the study's tables, as they are called here, with their units."""

NOT_DEFINED = frozenset({"cost_per_db"})
"""What the study gives without saying how it is computed."""

Line = dict[str, Any]


def published_list(data: StudyData, board: Board) -> ReportTable:
    """Every published figure with its section, beside ours where there is one."""
    study = load()
    here = dict(zip(("protocol", "data", "weights"), board.group, strict=False))
    made_with = {"published_protocol": study.protocol, "published_data": study.data, "here_protocol": here["protocol"],
                 "here_data": here["data"]}
    lines = [*_of_tables(board), *_of_comparisons(board), *_of_improvements(board), *_of_recommendations(board),
             *_of_the_summary(data, board), *_of_sentences(data, board)]
    rows = [{**line, **made_with} for line in sorted(lines, key=lambda line: _order(line["section"]))]
    shown = [Shown("section", "{section}"), Shown("what", "{what}"), Shown("published", "{published:,.6g}", why="told"),
             Shown("here", "{here:,.4g}", why="why"), Shown("unit", "{unit}")]
    note = (f"{beside_note(board)} \"not run\": the runs that it needs are not there; \"no counterpart\": these runs "
            "do not measure it.")
    return ReportTable("published-figures", "Every published figure", shown, rows, f"{note} {board.choice}".strip())


def _line(section: str, what: str, published: float, unit: str, here: float | None, why: str = "not run") -> Line:
    return {"section": section, "what": what, "published": published, "unit": unit, "here": here,
            "why": why if here is None else None}


def _of_tables(board: Board) -> Iterator[Line]:
    for table in load().tables:
        for row in table.rows:
            ours = board.chosen.get(row.configuration)
            for name, value in row.model_dump(exclude_none=True).items():
                if name in FIELDS:
                    title, unit = FIELDS[name]
                    here = _ours(board, table, row, ours, name) if ours else None
                    why = "not defined" if name in NOT_DEFINED else "not measured" if ours else "not run"
                    yield _line(table.section, f"{table.title}: {row.configuration}: {title}", value, unit, here, why)


def _ours(board: Board, table: Table, row: Row, item: Configuration, name: str) -> float | None:
    first = board.chosen.get(table.rows[0].configuration)
    reference = board.chosen.get(WINNER)
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


def _of_comparisons(board: Board) -> Iterator[Line]:
    for item in load().comparisons:
        a, b = board.chosen.get(item.a), board.chosen.get(item.b)
        found = board.compare(a.label, b.label) if a and b else None
        yield _line(item.section, f"{item.a} less {item.b}", item.difference, "dB",
                    found.difference if found else None)
        verdict = None if found is None else "holds up" if holds_up(found) else "may be chance"
        yield {"section": item.section, "what": f"{item.a} less {item.b}: significant", "published": None, "here": None,
               "told": "yes" if item.significant else "no", "why": verdict or "not run", "unit": ""}


def _of_improvements(board: Board) -> Iterator[Line]:
    start, end = board.chosen.get(BASELINE), board.chosen.get(WINNER)
    for item in load().improvements:
        title, unit = FIELDS[item.metric]
        before, after = (_value(other, item.metric) for other in (start, end))
        remark = " (published: its training)" if item.metric == "eval_minutes" else ""
        yield _line(item.section, f"{title}, {BASELINE}{remark}", item.initial, unit, before)
        yield _line(item.section, f"{title}, {WINNER}", item.final, unit, after)
        yield _line(item.section, f"{title}, change", item.percent, "%", _percent(after, before))


def _of_recommendations(board: Board) -> Iterator[Line]:
    for item in load().recommendations:
        ours = board.chosen.get(item.configuration or "")
        for name in ("psnr", "ssim", "memory_gb", "eval_minutes"):
            value = getattr(item, name)
            if value is not None:
                title, unit = FIELDS[name]
                yield _line(item.section, f"{item.advice}: {item.configuration}: {title}", value, unit,
                            _value(ours, name), "not measured" if ours else "not run")


def _of_the_summary(data: StudyData, board: Board) -> Iterator[Line]:
    told = load().summary
    oom = sum(run.tags.get("inversion.failure") == "oom" for run in data.having("FAILED"))
    best, single, worst = board.winner, board.single, board.configurations[-1]
    for what, published, here, unit in (
        ("configurations", told.configurations, len(data.runs) + len(data.missing), ""),
        ("successful", told.successful, len(data.having("FINISHED")), ""),
        ("out of memory", told.out_of_memory, oom, ""),
        ("best PSNR", told.best_psnr, best.psnr.mean, "dB"),
        ("best PSNR of a single model", told.best_single_psnr, single[0].psnr.mean if single else None, "dB"),
        ("range of PSNR", told.psnr_range, best.psnr.mean - worst.psnr.mean, "dB"),
        ("hours of a GPU (here: of the machines)", told.gpu_hours, data.hours, "h"),
    ):
        yield _line(told.section, f"summary: {what}", published, unit, here)


def _of_sentences(data: StudyData, board: Board) -> Iterator[Line]:
    for figure in load().figures:
        here, why = spoken(figure, data, board)
        yield _line(figure.section, f"in the text: {figure.what}", figure.value, figure.unit, here, why)


def _value(item: Configuration | None, metric: str) -> float | None:
    if item is None:
        return None
    match metric:
        case "psnr" | "ssim":
            return item.mean(metric)
        case "memory_gb":
            return _scaled(item.own_cost("train_peak_memory_mb"), 1024)
    return _scaled(item.cost("eval_seconds"), 60)


def _scaled(value: float | None, by: float, then: Callable[[float], float] = float) -> float | None:
    return None if value is None else then(value / by)


def _percent(after: float | None, before: float | None) -> float | None:
    return 100 * (after / before - 1) if after is not None and before else None


def _order(section: str) -> tuple[int, ...]:
    return tuple(int(part) for part in section.split("."))
