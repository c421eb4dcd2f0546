"""The commands ``inversion``, ``inversion-sweep`` and ``inversion-report``: a module for each command and subcommand.

May import everything; nothing but ``__main__`` modules imports it. Modules of commands are imported when they are
called, so that ``--help`` answers at once.
"""

from __future__ import annotations

from inversion.cli.imports import slow_imports


def main() -> None:
    """Runs ``inversion`` and exits: 0 all done, 1 something failed, 2 the request was wrong, 130 interrupted."""
    with slow_imports():
        from inversion.cli import group

    group.main()


def sweep_main() -> None:
    """Runs ``inversion-sweep`` and exits with its code."""
    with slow_imports():
        from inversion.cli import sweep

    sweep.main()


def report_main() -> None:
    """Runs ``inversion-report`` and exits with its code."""
    with slow_imports():
        from inversion.cli import report

    report.main()
