"""The commands ``inversion``, ``inversion-sweep``, ``inversion-report`` and ``inversion-study``.

One module per command and subcommand. May import everything. A command's module is imported when the command is called,
and imports what is slow in its function, so that ``--help`` and the checks of a request are fast.
"""

from __future__ import annotations

from inversion.cli.imports import slow_imports


def main() -> None:
    """Runs ``inversion`` and exits: 0 all done, 1 something failed, 2 the request was wrong, 130 interrupted."""
    with slow_imports():
        from inversion.cli import app

    app.main()


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


def study_main() -> None:
    """Runs ``inversion-study`` and exits with its code."""
    with slow_imports():
        from inversion.cli import study

    study.main()
