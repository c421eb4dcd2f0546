"""Cost per dB: extra evaluation time, compute and memory for each dB gained over a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inversion.report.data.board import Board, group_by
from inversion.report.data.configuration import MEMORY, Configuration
from inversion.report.stats.comparisons import outcome
from inversion.report.tables.published import PublishedStudy, reference_of
from inversion.report.tables.rankings import PSNR, RUN
from inversion.report.tables.table import ReportTable, Shown

COSTS = {"eval_seconds": ("s", ".2f"), "gflops_per_image": ("GFLOPs", ",.1f"), "eval_peak_memory_mb": ("MB", ",.0f")}
"""The metrics that count as costs, with unit and format."""

NOTE = ("Cost per dB is (cost − cost of the reference) / (PSNR − PSNR of the reference), for seconds to evaluate the "
        "test set, GFLOPs per image, and MB of memory during evaluation. The two references have the same other "
        "parameters: {layer} with the same decoder, and the best single model{best}. \"none\": nothing is "
        "gained; \"not run\": the reference was not run; a negative cost is saved in addition to the gain. Whether a "
        "gain holds up is decided as in the tables above. \"shared\": memory on a "
        "CPU or of runs trained side by side is not that of one run, and is left out.")


def costs(board: Board, studies: Sequence[PublishedStudy] = ()) -> ReportTable:
    """Cost per dB of every configuration, over each reference."""
    layer, _ = reference_of(studies, board)
    same = group_by(board.having(encoder=layer), lambda item: item.same_decoder)
    references = {"reference": {item: next(iter(same.get(item.same_decoder, [])), None)
                                for item in board.configurations},
                  "best": {item: board.best_singles.get(item.settings) for item in board.configurations}}
    rows = []
    for item in board.configurations:
        row: dict[str, Any] = {"configuration": item.label, "psnr": item.psnr.mean, "psnr_std": item.std("psnr")}
        for name, chosen in references.items():
            other = chosen[item]
            holds = outcome(board.compare(item, other)) if other and other is not item else None
            row |= {**_fields(name, item, other), f"{name}_holds": holds}
        rows.append(row)
    best = {other.label for other in references["best"].values() if other}
    return ReportTable("cost-per-db", "What a decibel costs", _shown(layer), rows,
                       NOTE.format(layer=layer, best=f" ({', '.join(best)})" if len(best) == 1 else ""))


def cost_per_db(item: Configuration, reference: Configuration, metric: str) -> float | None:
    """Extra cost for each dB gained; None if nothing is gained or a cost is unknown."""
    gain = item.psnr.mean - reference.psnr.mean
    mine, its = item.own_cost(metric), reference.own_cost(metric)
    return None if gain <= 0 or mine is None or its is None else (mine - its) / gain


def _shown(layer: str) -> list[Shown]:
    shown = [RUN, PSNR]
    for name, title in (("reference", f"over {layer}"), ("best", "over the best single")):
        shown += [Shown(f"gain {title} (dB)", f"{{{name}_gain:+.2f}}", why=f"{name}_why"),
                  Shown("holds up", f"{{{name}_holds}}", why=f"{name}_why")]
        shown += [Shown(f"{unit} per dB", f"{{{name}_{metric}:+{form}}}",
                        why=f"{name}_memory_why" if metric in MEMORY else f"{name}_why")
                  for metric, (unit, form) in COSTS.items()]
    return shown


def _fields(name: str, item: Configuration, reference: Configuration | None) -> dict[str, Any]:
    """The gain and its costs, or the reason for their absence."""
    if reference is None or item is reference:
        why = "not run" if reference is None else "(reference)"
        return {f"{name}_gain": None, f"{name}_why": why, f"{name}_memory_why": why}
    gain = item.psnr.mean - reference.psnr.mean
    why = "none" if gain <= 0 else "not measured"
    shared = gain > 0 and not (item.owns_memory and reference.owns_memory)
    return {f"{name}_gain": gain, **{f"{name}_{metric}": cost_per_db(item, reference, metric) for metric in COSTS},
            f"{name}_why": why, f"{name}_memory_why": "shared" if shared else why}
