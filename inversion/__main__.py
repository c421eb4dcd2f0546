"""``python -m inversion`` is the command ``inversion``."""

from inversion.cli import main

main()
