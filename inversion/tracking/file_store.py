"""MLflow's stores in folders of files (``./mlruns`` with ``meta.yaml``), which new versions open only on request."""

from __future__ import annotations

import logging
import os
import shlex
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow.environment_variables
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from inversion.tracking.address import sqlite_url

_logger = logging.getLogger(__name__)
FILE_STORE_VARIABLE = "MLFLOW_ALLOW_FILE_STORE"


def is_allowed() -> bool:
    """Whether MLflow opens file stores: older versions do, newer ones if the environment variable is set."""
    variable = getattr(mlflow.environment_variables, FILE_STORE_VARIABLE, None)
    return variable is None or bool(variable.get())


def folder_of(uri: str) -> Path | None:
    """The folder of a file store; None for other addresses."""
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file:") else None


def why_refused(folder: Path) -> str:
    """Why MLflow does not open a file store, and what to do instead."""
    if not any(folder.glob("*/meta.yaml")):
        return f"is a folder, and MLflow wants a database: give {sqlite_url(folder / 'mlflow.db')}"
    target = database_for(folder)
    return ("is an old file store, which MLflow no longer opens. Migrate it to a database: "
            f"{migration(folder, target)}; then give --tracking-uri {sqlite_url(target)}. "
            f"{FILE_STORE_VARIABLE}=true opens it as it is")


def migration(folder: Path, target: Path) -> str:
    """The command that migrates a file store to a new database."""
    return shlex.join(["mlflow", "migrate-filestore", "--source", str(folder), "--target", sqlite_url(target)])


def database_for(folder: Path) -> Path:
    """The database to migrate a file store to: a new one, because MLflow migrates only into an empty database."""
    beside = folder.with_name("mlflow.db")
    return folder.with_name(f"{folder.name}.db") if os.path.exists(beside) else beside


def a_run_of(folder: Path) -> str | None:
    """The id of any run in a file store; None if it has none."""
    return next((file.parent.name for file in folder.glob("[0-9]*/*/meta.yaml") if len(file.parent.name) == 32), None)


def warn_about_old_store(uri: str, client: MlflowClient, is_given: bool) -> None:
    """Logs which store is used if none was given and the folder has both a file store and a database."""
    old = Path("mlruns").absolute()
    run_id = None if is_given else a_run_of(old)
    if run_id is None:
        return
    command = migration(old, database_for(old))
    if folder_of(uri) == old:
        _warn_once(f"tracking store {uri}: using the old file store in this folder. Migrate it to a database with: "
                   f"{command}")
        return
    try:
        client.get_run(run_id)
    except MlflowException:
        _warn_once(f"tracking store {uri} does not have the runs of the old file store {old}. Migrate them to a "
                   f"database of their own with: {command}")


@cache
def _warn_once(line: str) -> None:
    """Logs a warning once, as a command may connect twice."""
    _logger.warning("%s", line)
