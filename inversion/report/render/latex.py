"""Tables of the report for a paper: LaTeX with booktabs, the best score of each column bold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from inversion.metrics import METRICS
from inversion.report.tables.table import MARK, ReportTable, Shown, is_missing
from inversion.text import one_line, visible

DAGGER = r"$^\dagger$"
"""Behind a difference that does not hold up."""

_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "−": "$-$", "→": r"$\to$", "·": r"$\cdot$", "–": "--",
    "≥": r"$\geq$", "≤": r"$\leq$", MARK: r"$^\ddagger$", **{character: f"\\{character}" for character in "&%$#_{}"}}


def latex(table: ReportTable) -> str:
    """A table as a LaTeX float, with its deciding columns; ``\\usepackage{booktabs}`` is needed.

    The best value of each score is bold. A difference that does not hold up has a dagger, which the caption explains.
    """
    columns = table.shown
    bold = {(row, index) for index, column in enumerate(columns) for row in _best(table, column)}
    open_rows = {number for number, row in enumerate(table.rows) if row.get("holds") in ("no", "one seed")}
    lines = []
    for number, row in enumerate(table.rows):
        cells = []
        for index, column in enumerate(columns):
            cell = escaped(one_line(column.text(row)))
            cell = rf"\textbf{{{cell}}}" if (number, index) in bold else cell
            cells.append(cell + DAGGER if number in open_rows and column.fields[0] == "difference" else cell)
        lines.append("    " + " & ".join(cells) + r" \\")
    alignment = "".join("r" if right else "l" for right in table.numeric[:len(columns)])
    explained = rf" {DAGGER} Does not hold up." if open_rows else ""
    return "\n".join([
        r"% \usepackage{booktabs}", r"\begin{table}", r"  \centering",
        rf"  \caption{{{escaped(table.title)}{explained}}}", rf"  \label{{tab:{table.key}}}",
        rf"  \begin{{tabular}}{{{alignment}}}", r"    \toprule",
        "    " + " & ".join(escaped(column.heading) for column in columns) + r" \\", r"    \midrule", *lines,
        r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """A line of text as LaTeX that shows it literally."""
    return re.sub("|".join(map(re.escape, _SPECIAL)), lambda found: _SPECIAL[found[0]], visible(text))


def _best(table: ReportTable, column: Shown) -> Sequence[int]:
    """The rows with the best value of a score; none for other columns, and none if all are equal."""
    metric = METRICS.get(column.fields[0]) if column.fields else None
    values = {number: row[column.fields[0]] for number, row in enumerate(table.rows)
              if metric and not is_missing(row.get(column.fields[0]))}
    if metric is None or len(set(values.values())) < 2:
        return []
    best = (max if metric.better == "higher" else min)(values.values())
    return [number for number, value in values.items() if value == best]
