"""``python -m sweeps``: the command ``inversion-sweep`` of this folder, as MLproject calls it."""

from inversion.cli.imports import slow_imports

with slow_imports():
    from sweeps.cli import main

main()
