"""Pages of MLflow's UI as lines to click or to copy."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection
from inversion.tracking.masking import without_password
from inversion.tracking.pages import page_link
from inversion.tracking.views import view_of


def page_lines(connection: Connection, runs: Mapping[str, str], study: str = "") -> Iterator[str]:
    """The address of each run's page and of the run table, for a store without a server after the command that starts
    MLflow's UI.

    Args:
        connection: the tracking store.
        runs: the ids of the runs by what they are called: ``{"view the run": "4fbe…"}``; they are in one experiment.
        study: the study whose view of the run table is linked to; by default all runs of the experiment.
    """
    uri = connection.uri
    if not uri.startswith(("http://", "https://")):
        yield f"start the MLflow UI: {shlex.join([_mlflow(), 'ui', '--backend-store-uri', _shown(uri)])}"
    experiment_id = ""
    for label, run_id in runs.items():
        experiment_id = connection.client.get_run(run_id).info.experiment_id
        yield f"{label}: {page_link(uri, experiment_id, run_id)}"
    yield f"compare the runs: {page_link(uri, experiment_id, view=view_of(study) if study else '')}"


def _shown(uri: str) -> str:
    return without_password(absolute(uri))


def _mlflow() -> str:
    """``mlflow``, or its path where the shell would not find this environment's: the command has to work as it is."""
    beside_python = Path(sys.executable).with_name("mlflow")
    found = shutil.which("mlflow")
    is_ours = found is not None and beside_python.exists() and Path(found).samefile(beside_python)
    return "mlflow" if is_ours or not beside_python.exists() else str(beside_python)
