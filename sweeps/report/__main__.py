"""``python -m sweeps.report``: what MLproject's entry point ``report`` runs."""

from sweeps.report.cli import main

main()
