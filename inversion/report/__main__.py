"""``python -m inversion.report`` is the command ``inversion-report``."""

from inversion.cli import report_main

report_main()
