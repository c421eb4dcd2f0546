"""``python -m sweeps.report``: what MLproject's entry point ``report`` runs."""

from inversion.cli.imports import slow_imports


def main() -> None:
    """Runs ``inversion-report`` and exits with its code."""
    with slow_imports():
        from sweeps.report import cli

    cli.main()


if __name__ == "__main__":
    main()
