"""The command ``inversion``. Its commands are imported when they are called, so that ``--help`` answers at once."""

from __future__ import annotations

from inversion.cli.imports import slow_imports


def main() -> None:
    """Runs a command and exits: 0 all done, 1 something ran and failed, 2 the request was wrong, 130 interrupted."""
    with slow_imports():
        from inversion.cli import group

    group.main()
