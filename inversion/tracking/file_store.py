"""MLflow's stores in folders of files (``./mlruns`` with ``meta.yaml``), which it opens no more unless told to."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.environment_variables
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from inversion.tracking.address import sqlite_url

_logger = logging.getLogger(__name__)
FILE_STORE_VARIABLE = "MLFLOW_ALLOW_FILE_STORE"


def is_allowed() -> bool:
    """Whether MLflow opens such a store: older versions do, newer ones where the environment says so."""
    variable = getattr(mlflow.environment_variables, FILE_STORE_VARIABLE, None)
    return variable is None or bool(variable.get())


def folder_of(uri: str) -> Path | None:
    """The folder of a store that is one; None for every other address."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None


def why_refused(folder: Path) -> str:
    """Why MLflow does not open a store of files, and what to do instead."""
    if not any(folder.glob("*/meta.yaml")):
        return f"is a folder, and MLflow wants a database: give {sqlite_url(folder / 'mlflow.db')}"
    target = database_for(folder)
    return ("is an old store of files, which MLflow opens no more. Bring its runs into a database: "
            f"{migration(folder, target)}; then give --tracking-uri {sqlite_url(target)}. "
            f"{FILE_STORE_VARIABLE}=true opens it as it is")


def migration(folder: Path, target: Path) -> str:
    """The command that brings the runs of a store of files into a new database."""
    return shlex.join(["mlflow", "migrate-filestore", "--source", str(folder), "--target", sqlite_url(target)])


def database_for(folder: Path) -> Path:
    """The file to bring the runs of a store of files into: MLflow writes into no database that has runs."""
    beside = folder.with_name("mlflow.db")
    return folder.with_name(f"{folder.name}.db") if beside.exists() else beside


def a_run_of(folder: Path) -> str | None:
    """The id of some run in a store of files; None if it has none."""
    return next((file.parent.name for file in folder.glob("[0-9]*/*/meta.yaml") if len(file.parent.name) == 32), None)


def warn_about_old_store(uri: str, client: MlflowClient, is_given: bool) -> None:
    """Says which store was taken where nobody named one and MLflow would have had two to choose from."""
    old = Path("mlruns").absolute()
    run_id = None if is_given else a_run_of(old)
    if run_id is None:
        return
    command = migration(old, database_for(old))
    if folder_of(uri) == old:
        _logger.warning("tracking store %s: the old store of files in this folder was taken. Into a database with: %s",
                        uri, command)
        return
    try:
        client.get_run(run_id)
    except MlflowException:
        _logger.warning("tracking store %s: the runs of the old store of files %s are not in it. Into a database of "
                        "their own with: %s", uri, old, command)
