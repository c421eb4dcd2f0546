"""A table of the report: raw values for CSV and Parquet, and how they are written for people."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from inversion.report.tables.markdown import literal
from inversion.text import one_line

NOTHING = "–"


@dataclass(frozen=True)
class Shown:
    """A column that people see: ``Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}")``.

    The first field of the template is what the column sorts by. A cell whose fields are missing shows ``otherwise``, or
    what the raw column ``why`` says of that row.
    """

    title: str
    template: str
    otherwise: str = NOTHING
    why: str = ""

    @cached_property
    def fields(self) -> list[str]:
        """The raw columns that the template names."""
        return [name for _, name, _, _ in string.Formatter().parse(self.template) if name]

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell of a row."""
        if any(is_missing(row.get(name)) for name in self.fields):
            return str(row.get(self.why) or self.otherwise)
        return self.template.format_map(row)

    def sort_key(self, row: Mapping[str, Any]) -> Any:
        """What the cell is sorted by; empty where it is missing."""
        value = row.get(self.fields[0])
        return "" if is_missing(value) else value


@dataclass(frozen=True)
class ReportTable:
    """One table: ``rows`` are raw, ``shown`` is what people see of them; ``key`` is its file's name."""

    key: str
    title: str
    shown: Sequence[Shown]
    rows: Sequence[Mapping[str, Any]]
    note: str = ""
    marked: frozenset[int] = field(default_factory=frozenset)

    @property
    def frame(self) -> pd.DataFrame:
        """The raw values."""
        return pd.DataFrame(list(self.rows))

    @cached_property
    def numeric(self) -> list[bool]:
        """Which of the shown columns hold numbers: those stand to the right."""
        return [any(isinstance(row.get(column.fields[0]), int | float) for row in self.rows) for column in self.shown]

    def markdown(self) -> str:
        """As a Markdown table under its title."""
        lines = [f"## {literal(self.title)}", ""]
        if self.note:
            lines += [literal(self.note), ""]
        if not self.rows:
            return "\n".join([*lines, "Nothing to show.", ""])
        lines += ["| " + " | ".join(column.title for column in self.shown) + " |",
                  "|" + "|".join("---:" if number else "---" for number in self.numeric) + "|"]
        for number, row in enumerate(self.rows):
            cells = [literal(one_line(column.text(row))) for column in self.shown]
            if number in self.marked:
                cells[0] = f"**{cells[0]}**"
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([*lines, ""])


def is_missing(value: Any) -> bool:
    """Whether there is no value: None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))
