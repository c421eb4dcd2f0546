"""All terminal output of the commands: the only module that makes consoles, tables and styled text.

File names, run names and messages are shown literally, never as markup, emoji codes or terminal control sequences. So a
style is given beside a text and never in it: ``console.print(styled(name, "bold"), ": done", sep="")``. A string is one
line, whatever characters it has; print several lines one by one, or join them with ``in_lines``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click
import rich.console
from rich.table import Column, Table
from rich.text import Text

from inversion.errors import InversionError
from inversion.progress import Progress, no_progress
from inversion.text import one_line, visible

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import TextColumn

LOG_WIDTH = 160


class Console(rich.console.Console):
    """A console that shows strings literally: no markup, no emoji codes, control characters as escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As ``rich.console.Console.print``.

        Raises:
            InversionError: the output cannot be written, because the disk is full or the like.
        """
        try:
            super().print(*objects, **options)
        except OSError as error:
            raise InversionError(f"the output cannot be written: {error.strerror or error}") from error

    def note(self, text: str) -> None:
        """Prints a line that begins with a highlighted ``note:``."""
        self.print(styled("note:", "yellow"), text, soft_wrap=True)


def make_console() -> Console:
    """A console as wide as the terminal; for a file or pipe, wide enough that tables do not wrap names."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=LOG_WIDTH)


def write_error(message: str) -> None:
    """Writes a message to one line of standard error."""
    click.echo(f"error: {visible(one_line(message))}", err=True)


def styled(text: str, style: str = "") -> Text:
    """A text with a style of rich, such as ``bold``."""
    return Text(visible(text), style)


def in_lines(lines: Iterable[str]) -> Text:
    """A text of several lines."""
    return Text("\n").join(map(styled, lines))


def make_table(*columns: str, **options: Any) -> Table:
    """A table with a left-aligned title, whose cells wrap long text and never truncate it."""
    return Table(*(Column(column, overflow="fold") for column in columns), title_justify="left", **options)


class NamedRows:
    """A table whose first column holds names, which are shown whole: one too long for its column gets its own line.

    Args:
        columns: the headers; the first is that of the names.
        rows: the cells of each row, the name first. All but the name are aligned to the right.
    """

    GAP = 2

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self.columns = columns
        self.rows = rows

    def __rich_console__(self, console: rich.console.Console, options: rich.console.ConsoleOptions) -> Iterator[Text]:
        cells = [list(map(styled, row)) for row in (self.columns, *self.rows)]
        widths = [max(cell.cell_len for cell in column) for column in zip(*cells, strict=True)]
        room = max(options.max_width - sum(width + self.GAP for width in widths[1:]), cells[0][0].cell_len)
        widths[0] = min(widths[0], room)
        for number, (name, *others) in enumerate(cells):
            if name.cell_len > widths[0]:
                yield name
                name = styled("")
            name.pad_right(widths[0] - name.cell_len)
            for cell, width in zip(others, widths[1:], strict=True):
                cell.pad_left(width - cell.cell_len + self.GAP)
            line = styled("").join([name, *others])
            line.rstrip()
            line.stylize("" if number else "bold")
            yield line


def text_column(template: str) -> TextColumn:
    """A column of a progress bar that shows the fields of a task literally."""
    from rich.progress import TextColumn

    return TextColumn(template, markup=False)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """One bar on standard error for each kind of work; none if that is not a terminal."""
    from rich.progress import BarColumn, TaskID, TaskProgressColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield no_progress
        return
    columns = (text_column("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(visible(what))
            bars.update(tasks[what], completed=done, total=total)

        yield report


class LogFormatter(logging.Formatter):
    """Log records with their messages on one line each, control characters as escapes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return visible(super().formatMessage(record))

    def formatException(  # noqa: N802
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        return "\n".join(map(visible, super().formatException(ei).splitlines()))


def set_up_streams() -> None:
    """Makes standard output and error accept any text: what their encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def log_to_stderr(layout: str, level: int) -> None:
    """Sends log records of this level and above to standard error, in a layout of ``logging.Formatter``."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter(layout))
    logging.basicConfig(handlers=[handler], level=level)
