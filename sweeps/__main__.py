"""``python -m sweeps``: the command ``inversion-sweep`` of this folder, as MLproject calls it."""

from inversion.cli.imports import slow_imports


def main() -> None:
    """Runs ``inversion-sweep`` and exits with its code."""
    with slow_imports():
        from sweeps import cli

    cli.main()


if __name__ == "__main__":
    main()
