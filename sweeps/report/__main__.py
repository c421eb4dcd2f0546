"""``python -m sweeps.report``: what MLproject's entry point ``report`` runs."""

from inversion.cli.imports import slow_imports

with slow_imports():
    from sweeps.report.cli import main

main()
