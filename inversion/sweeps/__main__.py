"""``python -m inversion.sweeps`` is the command ``inversion-sweep``."""

from inversion.cli import sweep_main

sweep_main()
