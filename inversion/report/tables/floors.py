"""Floors and ceilings: what each cut's decoders reach, beside what needs no encoder, a linear map, and optimisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inversion.metrics import FLOORS
from inversion.report.data.board import Board, best_of, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.stats.comparisons import Comparison
from inversion.report.tables.questions import ONE_SEED, difference_fields
from inversion.report.tables.table import ReportTable, Shown
from inversion.text import first_of

LINEAR = "linear"
"""The decoder without a nonlinearity."""

NOTE = ("PSNR in dB on the same test images. One colour for all images: the mean of the training images. Bicubic: "
        "each image reduced to as many pixels as the features have locations, and enlarged again; a thumbnail has 3 "
        "channels, and most features have more. Linear: the decoder of that name, trained like the others. Best "
        "decoder: the best of the others by validation PSNR. Its differences are paired by image; p is corrected "
        "(Holm), over bicubic for all configurations with each of their floors, over linear for all pairs of "
        "the leaderboard. Optimised: inversion without training, one lower bound on what the features allow; "
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
             Shown("over bicubic", "{over_bicubic:+.2f}"), Shown("holds up", "{over_bicubic_holds}"),
             Shown("over linear", "{over_linear:+.2f}"), Shown("holds up", "{over_linear_holds}"),
             *(Shown(f"optimised, {count:,} steps", f"{{optimised_{count}:.2f}}") for count in steps)]
    note = f"{NOTE} {'Differences include the seed noise.' if board.noise else ONE_SEED}"
    return ReportTable("floors", "Floors and ceilings", shown, rows, note)


def beside_thumbnails(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether decoders are better than a thumbnail: a sentence on the rows of the table; none if nothing was tested."""
    tested = [row for row in rows if row.get("over_bicubic_p") is not None]
    if not tested:
        return []
    sides: dict[str, list[str]] = {"better": [], "worse": [], "not known to be better or worse": []}
    for row in tested:
        held = row["over_bicubic_holds"] == "yes"
        side = "better" if row["over_bicubic"] > 0 else "worse"
        sides[side if held else "not known to be better or worse"].append(str(row["features"]))
    found = ", ".join(f"{side} for {first_of(names, 4)}" for side, names in sides.items() if names)
    why = " (one seed each)" if any(row["over_bicubic_holds"] == "one seed" for row in tested) else ""
    return ["Beside a bicubic thumbnail with as many pixels as the features have locations, the best decoder is "
            f"{found}{why}."]


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
    if best and row["bicubic"] is not None:  # runs of earlier versions have the mean alone
        row |= {"over_bicubic": best.psnr.mean - row["bicubic"], "over_bicubic_holds": "not tested"}
    if best:
        found = {f"over_{floor}": board.over_floors.get((best.label, floor)) for floor in FLOORS}
        found["over_linear"] = board.compare(best, linear) if linear else None
        for key, comparison in found.items():
            row |= _difference(key, comparison) if comparison else {}
    return row


def _difference(key: str, found: Comparison) -> dict[str, Any]:
    """The raw values of the difference from one floor."""
    return {key: found.difference, **{f"{key}_{name}": value for name, value in difference_fields(found).items()
                                      if name in ("low", "high", "p", "holds")}}


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
