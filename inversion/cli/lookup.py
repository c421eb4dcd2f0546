"""Looking runs and studies up before PyTorch is imported, which takes longer than to find that there are none."""

from __future__ import annotations

from collections.abc import Sequence

from inversion.cli.imports import slow_imports


def look_up_runs(texts: Sequence[str], tracking_uri: str | None, experiment: str | None = None) -> None:
    """Looks runs up, in all experiments if none is given.

    Raises:
        RequestError: there is no such run, or there are several.
    """
    with slow_imports():
        from inversion.tracking.choose import choose_run
        from inversion.tracking.connection import connect

    connection = connect(tracking_uri, experiment, create=False)
    for text in texts:
        choose_run(connection, text, everywhere=experiment is None)


def look_up_studies(names: Sequence[str], tracking_uri: str | None, experiment: str | None = None) -> None:
    """Looks studies up.

    Raises:
        RequestError: there is no such study.
    """
    with slow_imports():
        from inversion.tracking.connection import connect
        from inversion.tracking.study import in_experiment_of, require_study

    connection = connect(tracking_uri, experiment, create=False)
    for name in names:
        require_study(in_experiment_of(connection, name), name)
