"""The command ``inversion``. Its commands are imported when they are called, so that ``--help`` answers at once."""

from __future__ import annotations

from inversion.cli.group import main

__all__ = ["main"]
