"""Which differences hold up: every pair of configurations, paired by test image."""

from __future__ import annotations

from inversion.report.data.board import COMPARED, Board
from inversion.report.tables.questions import difference_columns, difference_fields
from inversion.report.tables.table import ReportTable, Shown


def differences(board: Board) -> ReportTable:
    """Every pair of the best configurations; corrected over all of them."""
    rows = [{"a": a, "b": b, "images": found.images, **difference_fields(found)}
            for (a, b), found in board.comparisons.items()]
    holding = sum(row["holds"] == "yes" for row in rows)
    note = (f"{holding} of {len(rows)} differences hold up: Wilcoxon's p, corrected for all pairs (Holm), is below "
            "0.05, and 0 lies outside the 95 % bootstrap interval of the mean difference. Effect is the rank-biserial "
            "correlation: 1 if the first is better on every image.")
    if len(board.configurations) > COMPARED:
        note += f" Only the best {COMPARED} configurations are compared."
    shown = [Shown("first", "{a}"), Shown("second", "{b}"), *difference_columns(rows), Shown("effect", "{effect:+.2f}")]
    return ReportTable("differences", "Which differences hold up?", shown, rows, note)
