"""Pages of MLflow's UI as lines to click or to copy."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection
from inversion.tracking.masking import split_userinfo, without_password

LOCAL_UI = "http://127.0.0.1:5000"
"""Where ``mlflow ui`` serves its pages unless it is given a host or port."""


def page_lines(connection: Connection, runs: Mapping[str, str]) -> Iterator[str]:
    """The address of each run's page, for a store without a server after the command that starts MLflow's UI.

    Args:
        connection: the tracking store.
        runs: the ids of the runs by what they are called: ``{"view the run": "4fbe…"}``.
    """
    uri = connection.uri
    if uri.startswith(("http://", "https://")):
        server = _browsable(uri)
    else:
        yield f"start the MLflow UI: {shlex.join([_mlflow(), 'ui', '--backend-store-uri', _shown(uri)])}"
        server = LOCAL_UI
    for label, run_id in runs.items():
        experiment_id = connection.client.get_run(run_id).info.experiment_id
        yield f"{label}: {server}/#/experiments/{experiment_id}/runs/{run_id}"


def _browsable(uri: str) -> str:
    """The address of a server without user and password, which a browser asks for."""
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{split_userinfo(rest)[1]}".rstrip("/")


def _shown(uri: str) -> str:
    return without_password(absolute(uri))


def _mlflow() -> str:
    """``mlflow``, or its path where the shell would not find this environment's: the command has to work as it is."""
    beside_python = Path(sys.executable).with_name("mlflow")
    found = shutil.which("mlflow")
    is_ours = found is not None and beside_python.exists() and Path(found).samefile(beside_python)
    return "mlflow" if is_ours or not beside_python.exists() else str(beside_python)
