"""Capacity apart from design: decoders of about the same size at the same layer, and the gap to the validation loss."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from inversion.report.data.board import Board, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.tables.questions import NOT_TUNED, difference_columns, difference_fields
from inversion.report.tables.rankings import PSNR, RUN
from inversion.report.tables.table import ReportTable, Shown

SIZES = {"decoder_parameters": "parameters", "gflops_per_image": "GFLOPs"}
ALIKE = 1.25
"""Largest ratio of two sizes that count as equal."""

EQUAL_SIZE = (f"Pairs of different decoders at the same layer whose {' or '.join(SIZES.values())} (per image, with the "
              f"encoder) differ by a factor of at most {ALIKE}; decoder_options width and depth set the size. "
              "Differences are judged as in the other tables.")
GAP = ("Losses of the best epoch, averaged over the seeds. The training loss is the mean over the steps of the epoch, "
       "on random crops and of a network that still improves: a small gap, of either sign, says nothing. A decoder "
       "overfits if the gap is large and grows with its size.")


def equal_size(board: Board) -> ReportTable:
    """Pairs of decoders, or designs of one, at the same layer and of about the same size."""
    rows = [{"size": title, "a": a.label, "b": b.label, "size_a": a.cost(metric), "size_b": b.cost(metric),
             **difference_fields(board.compare(a, b))}
            for metric, title in SIZES.items() for a, b in _pairs(board, metric)]
    shown = [Shown("equal", "{size}"), Shown("first", "{a}"), Shown("second", "{b}"),
             Shown("first's", "{size_a:,.6g}"), Shown("second's", "{size_b:,.6g}"), *difference_columns(rows)]
    note = EQUAL_SIZE + ("" if board.is_tuned("lr") else NOT_TUNED)
    return ReportTable("equal-size", "Is it the design, or the size?", shown, rows, note)


def generalisation(board: Board) -> ReportTable:
    """The losses of training and validation at the best epoch, by layer and size of the decoder."""
    rows = []
    for item in sorted(board.configurations, key=lambda item: (item.encoder, item.cost("decoder_parameters") or 0)):
        train, validation = item.cost("best/train_loss"), item.cost("best/val_loss")
        if train is not None and validation is not None:
            rows.append({
                "configuration": item.label, "parameters": item.cost("decoder_parameters"), "psnr": item.psnr.mean,
                "psnr_std": item.std("psnr"), "train_loss": train, "val_loss": validation, "gap": validation - train,
                "gap_percent": 100 * (validation / train - 1)})
    shown = [RUN, Shown("parameters", "{parameters:,.0f}"), PSNR, Shown("training loss", "{train_loss:.4f}"),
             Shown("validation loss", "{val_loss:.4f}"), Shown("gap", "{gap:+.4f} ({gap_percent:+.0f} %)")]
    return ReportTable("generalisation", "Does it overfit?", shown, rows, GAP)


def _pairs(board: Board, metric: str) -> Iterator[tuple[Configuration, Configuration]]:
    """Pairs of different designs, the better one first."""
    for items in group_by(board.configurations, lambda item: (item.encoder, item.fusion, item.settings)).values():
        for a, b in itertools.combinations(items, 2):
            if a.design != b.design and _is_equal(a.cost(metric), b.cost(metric)):
                yield a, b


def _is_equal(one: float | None, other: float | None) -> bool:
    return bool(one and other) and max(one, other) <= ALIKE * min(one, other)  # type: ignore[type-var,operator]
