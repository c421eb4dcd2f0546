"""``python -m sweeps``: the command ``inversion-sweep`` of this folder, as MLproject calls it."""

from sweeps.cli import main

main()
