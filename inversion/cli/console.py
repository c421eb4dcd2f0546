"""Where commands write for people."""

from __future__ import annotations

import os

from rich.console import Console

LOG_WIDTH = 160


def make_console() -> Console:
    """A console as wide as the terminal; in a file or a pipe, wide enough that tables do not fold their names."""
    console = Console()
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=LOG_WIDTH)
