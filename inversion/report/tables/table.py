"""A table of the report, raw values and shown text, and Markdown that shows any text literally."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from inversion.text import number, one_line, visible

NOTHING = "–"

MARK = "‡"
"""Behind the heading of a column that is explained elsewhere."""

_MARKUP = re.compile(r"[\\`*|]"  # escapes, code, emphasis, cells of tables
                     r"|(?<!\w)_|_(?!\w)"  # emphasis; not within a word
                     r"|<(?=[A-Za-z/!?])"  # HTML
                     r"|(?<=\])[(\[:]"  # links
                     r"|~(?=~)|^[#>]")


class _Formatter(string.Formatter):
    """Numbers have a minus sign, and text that they stand beside keeps its hyphens."""

    def format_field(self, value: Any, format_spec: str) -> str:
        return number(value, format_spec) if isinstance(value, int | float) else format(value, format_spec)


@dataclass(frozen=True)
class Shown:
    """A displayed column: ``Shown("PSNR (dB)", "{psnr:.2f} ± {psnr_std:.2f}")``.

    The column sorts by the first field of its template. A cell with a missing field shows the raw column ``why`` of its
    row if that has a value, else ``otherwise``. ``about`` is the key of the table whose note explains the column: its
    heading is marked.
    """

    title: str
    template: str
    otherwise: str = NOTHING
    why: str = ""
    about: str = ""

    @cached_property
    def fields(self) -> list[str]:
        """The raw columns that the template names."""
        return [name for _, name, _, _ in string.Formatter().parse(self.template) if name]

    @property
    def heading(self) -> str:
        """The title, marked if another table explains it."""
        return f"{self.title} {MARK}" if self.about else self.title

    def text(self, row: Mapping[str, Any]) -> str:
        """The text of a cell."""
        if any(is_missing(row.get(name)) for name in self.fields):
            return str(row.get(self.why) or self.otherwise)
        return _Formatter().vformat(self.template, (), row)

    def sort_key(self, row: Mapping[str, Any]) -> Any:
        """The value that the cell sorts by; empty if missing."""
        value = row.get(self.fields[0])
        return "" if is_missing(value) else value


@dataclass(frozen=True)
class ReportTable:
    """One table.

    Attributes:
        key: Name of its files, and its anchor on the page.
        title: Title.
        shown: The displayed columns that decide.
        rows: Raw values, written to CSV and Parquet.
        note: Text above the table.
        marked: Indices of highlighted rows.
        more: Further columns; the page shows them when it is asked to.
        common: What the note shares with other tables: a report of several says it once.
    """

    key: str
    title: str
    shown: Sequence[Shown]
    rows: Sequence[Mapping[str, Any]]
    note: str = ""
    marked: frozenset[int] = field(default_factory=frozenset)
    more: Sequence[Shown] = ()
    common: str = ""

    @property
    def columns(self) -> list[Shown]:
        """Every displayed column."""
        return [*self.shown, *self.more]

    @property
    def frame(self) -> pd.DataFrame:
        """The raw values."""
        return pd.DataFrame(list(self.rows))

    @cached_property
    def numeric(self) -> list[bool]:
        """Which of the columns are numeric, and aligned right."""
        return [any(isinstance(row.get(column.fields[0]), int | float) for row in self.rows) for column in self.columns]

    @cached_property
    def named(self) -> int:
        """Index of the column that names a row: the first of text."""
        return self.numeric.index(False) if False in self.numeric else 0

    def markdown(self, with_common: bool = True) -> str:
        """As a Markdown table under its title."""
        lines = [f"## {literal(self.title)}", ""]
        if note := " ".join(filter(None, (self.note, self.common if with_common else ""))):
            lines += [literal(note), ""]
        if not self.rows:
            return "\n".join([*lines, "Nothing to show.", ""])
        lines += ["| " + " | ".join(literal(column.heading) for column in self.columns) + " |",
                  "|" + "|".join("---:" if right else "---" for right in self.numeric) + "|"]
        for index, row in enumerate(self.rows):
            cells = [literal(one_line(column.text(row))) for column in self.columns]
            if index in self.marked:
                cells[0] = f"**{cells[0]}**"
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join([*lines, ""])


def is_missing(value: Any) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def literal(text: str) -> str:
    """Escapes a line of text so that Markdown (GitHub's) shows it literally, in a table cell too."""
    text = re.sub(_MARKUP, r"\\\g<0>", visible(text))
    return re.sub(r"&(?=#?\w+;)", "&amp;", text)


def code(text: str) -> str:
    """A line of text as inline code."""
    fence = "`" * (_longest_run(text) + 1)
    blank = " " if len(fence) > 1 else ""
    return f"{fence}{blank}{visible(text)}{blank}{fence}"


def code_block(text: str, language: str) -> str:
    """Text as a fenced code block."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return "\n".join([f"{fence}{language}", *map(visible, text.rstrip().split("\n")), fence])


def _longest_run(text: str) -> int:
    """The largest number of consecutive backticks."""
    return max(map(len, re.findall("`+", text)), default=0)
