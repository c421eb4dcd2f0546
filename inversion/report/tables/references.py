"""Training-free inversion of each image by optimisation, against the best decoder of the same features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inversion.report.data.board import Board, by_validation
from inversion.report.data.configuration import Configuration
from inversion.report.data.same_images import pictures_agree
from inversion.report.data.study import ReportRun, StudyData
from inversion.report.stats.comparisons import Comparison, compare_pools, correct
from inversion.report.stats.pools import SeedPool, pool_seeds
from inversion.report.tables.overview import RUN_ID
from inversion.report.tables.questions import difference_columns, difference_fields
from inversion.report.tables.table import ReportTable, Shown
from inversion.tracking.connection import Connection

SAME = ("protocol", "image_size")

NOTE = ("Gradient descent on the image until its features match (Mahendran and Vedaldi, 2015). It needs no training, "
        "and is one lower bound on what the features allow. The difference is inversion minus the best decoder by "
        "validation PSNR of the same encoder with the same protocol, weights, image size and images, over their common "
        "test images; paired by image, with Holm's correction over the rows. The precision of the two may differ: both "
        "are shown.")


def references(connection: Connection, data: StudyData, boards: Sequence[Board]) -> ReportTable:
    """Every inversion of the study, against the best decoder."""
    runs = [run for run in data.references if run.is_scored]
    pairs = {run.run_id: found for run in runs if (found := _beside(connection, run, boards))}
    compared = correct({run_id: comparison for run_id, (_, comparison) in pairs.items()})
    rows = []
    for run in runs:
        row = _row(run)
        if run.run_id in pairs:
            item, _ = pairs[run.run_id]
            comparison = compared[run.run_id]
            board = next(board.title for board in boards if item in board.configurations)
            row |= {"beside": item.label, "board": board, "beside_precision": item.precision,
                    "common": comparison.images, **difference_fields(comparison)}
        rows.append(row)
    shown = [Shown("run", "{run}"), Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}"), Shown("SSIM", "{ssim:.3f}"),
             Shown("LPIPS", "{lpips:.3f}", "off"), Shown("test images", "{images}"), Shown("steps", "{steps:,}"),
             Shown("seconds", "{eval_seconds:,.0f}"), Shown("precision", "{precision}"),
             Shown("best decoder", "{beside} ({beside_precision})", "none to compare"),
             Shown("common images", "{common}"),
             *(Shown(column.title, column.template) for column in difference_columns(rows)),
             Shown("protocol", "{protocol}"), Shown("data", "{data_set}"), Shown("weights", "{weights}"),
             Shown("image size", "{image_size}"), RUN_ID]
    return ReportTable("references", "Without training: each image inverted alone", shown, rows, NOTE)


def _row(run: ReportRun) -> dict[str, Any]:
    names = ("protocol", "weights", "image_size", "steps", "precision")
    assert run.scores is not None  # noqa: S101  only called with scored runs
    psnr = run.scores["psnr"]
    return {"run": run.name, "psnr": float(psnr.mean()), "psnr_std": float(psnr.std(ddof=0)),
            "ssim": run.metrics.get("test/ssim"), "lpips": run.metrics.get("test/lpips"),
            "eval_seconds": run.metrics.get("eval_seconds"),
            "images": len(run.scores),
            **{name: run.parameters.get(name) for name in names}, "data_set": run.document["data"]["name"],
            "run_id": run.run_id}


def _beside(connection: Connection, run: ReportRun, boards: Sequence[Board]) -> tuple[Configuration, Comparison] | None:
    """The best decoder of the same features, and inversion minus decoder; None if there is none to compare with."""
    assert run.scores is not None  # noqa: S101  only called with scored runs
    mine = run.scores.set_index("image")["psnr"]
    for board in boards:
        for item in by_validation(board.configurations):
            if item.encoder == run.parameters["encoder"] and _agrees(connection, run, item, list(mine.index)):
                decoder = SeedPool(item.psnr.table.loc[sorted(mine.index)])
                return item, compare_pools(pool_seeds({0: mine}), decoder, board.noise)
    return None


def _agrees(connection: Connection, run: ReportRun, item: Configuration, images: Sequence[str]) -> bool:
    """Whether protocol, frozen weights, image size and images are the same.

    The data digest of an inversion covers its test images only, so image names are compared, and the pictures if both
    runs logged them.
    """
    other = next(iter(item.runs.values()))
    if any(run.parameters[name] != other.parameters[name] for name in SAME):
        return False
    if run.document["identity"]["weights"] != other.document["identity"]["weights"]:
        return False
    if not set(images) <= set(item.psnr.table.index):
        return False
    return pictures_agree(connection, run, other, images) is not False
