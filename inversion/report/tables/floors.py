"""Floors and ceilings: what each cut's decoders reach, beside what needs no encoder, a linear map, and optimisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inversion.report.data.board import Board, best_of, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.stats.comparisons import outcome
from inversion.report.tables.table import ReportTable, Shown

FLOORS = {"training_colour": "one colour for all images", "mean_colour": "mean colour of each image",
          "bicubic": "bicubic thumbnail"}
"""Metrics ``floor/NAME_psnr`` of every run, with what they are (``inversion.training.floors``)."""

LINEAR = "linear"
"""The decoder without a nonlinearity."""

NOTE = ("PSNR in dB on the same test images. One colour for all images: the mean of the training images. Bicubic: "
        "each image reduced to as many pixels as the features have locations, and enlarged again; features have more "
        "channels than a thumbnail. Linear: the decoder of that name, trained like the others. Best decoder: the best "
        "of the others by validation PSNR; its difference from linear is paired by image, with p corrected for all "
        "pairs of the leaderboard. Optimised: inversion without training, one lower bound on what the features allow; "
        "the best run of each number of steps, if it covers all test images.")


def floors(board: Board, references: ReportTable) -> ReportTable:
    """One row for each cut, or combination of cuts, of a board; ``references`` is the table of optimised images."""
    groups = group_by(board.configurations, features_of)
    optimised = _optimised(board, references)
    steps = sorted({step for found in optimised.values() for step in found})
    rows = [_row(board, name, items, optimised.get(items[0].encoder, {})) for name, items in groups.items()]
    rows = [row for row in rows if any(row.get(name) is not None for name in (*FLOORS, LINEAR)) or row["optimised"]]
    shown = [Shown("features", "{features}"), Shown("locations", "{locations:,.0f}"),
             *(Shown(title, f"{{{name}:.2f}}") for name, title in FLOORS.items()), Shown("linear", "{linear:.2f}"),
             Shown("best decoder", "{best}"), Shown("its PSNR", "{best_psnr:.2f}"),
             Shown("over bicubic", "{over_bicubic:+.2f}"), Shown("over linear", "{over_linear:+.2f}"),
             Shown("holds up", "{holds}"),
             *(Shown(f"optimised, {count:,} steps", f"{{optimised_{count}:.2f}}") for count in steps)]
    return ReportTable("floors", "Floors and ceilings", shown, rows, NOTE)


def features_of(item: Configuration) -> str:
    """The features that a configuration decodes: ``vgg16:block1``, or several with their fusion."""
    return f"{item.encoder} ({item.fusion})" if item.is_ensemble else item.encoder


def _row(board: Board, name: str, items: Sequence[Configuration], optimised: Mapping[int, float]) -> dict[str, Any]:
    linear = _best([item for item in items if item.decoder == LINEAR])
    best = _best([item for item in items if item.decoder != LINEAR])
    row: dict[str, Any] = {"features": name, "locations": items[0].cost("feature_locations"),
                           **{floor: items[0].cost(f"floor/{floor}_psnr") for floor in FLOORS},
                           "linear": linear and linear.psnr.mean, "best": best and best.label,
                           "best_psnr": best and best.psnr.mean, "optimised": bool(optimised),
                           **{f"optimised_{steps}": psnr for steps, psnr in optimised.items()}}
    if best and row["bicubic"] is not None:
        row["over_bicubic"] = best.psnr.mean - row["bicubic"]
    if best and linear:
        found = board.compare(best, linear)
        row |= {"over_linear": found.difference, "holds": outcome(found)}
    return row


def _best(items: Sequence[Configuration]) -> Configuration | None:
    """The best by validation PSNR; by test PSNR if one has none."""
    return best_of(items) if items else None


def _optimised(board: Board, references: ReportTable) -> dict[str, dict[int, float]]:
    """By encoder and steps, the PSNR of optimised images that were compared with this board on all of its images."""
    images = len(board.winner.psnr.table)
    found: dict[str, dict[int, float]] = {}
    for row in references.rows:
        item = board.by_label.get(str(row.get("beside")))
        if item is None or row["board"] != board.title or row["common"] != images or not row["steps"]:
            continue
        by_steps = found.setdefault(item.encoder, {})
        by_steps[row["steps"]] = max(row["psnr"], by_steps.get(row["steps"], row["psnr"]))
    return found
