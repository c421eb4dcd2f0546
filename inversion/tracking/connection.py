"""Reaching a tracking store: which one, whether it answers, and creating its database once."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
import requests
from filelock import FileLock
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient

from inversion.errors import InversionError, RequestError

DEFAULT_EXPERIMENT = "inversion"
ANSWER_SECONDS = 10
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""MLflow's bars for small files, and addresses that it prints twice a run."""


class NoTrackingError(RequestError):
    """The tracking store cannot be reached; nothing was started."""

    kind = "tracking"


class TrackingLostError(InversionError):
    """The tracking store stopped answering in the middle of a run; the checkpoints on this machine are safe."""

    kind = "tracking_lost"


@dataclass(frozen=True)
class Connection:
    """A tracking store that answers, and the experiment in it."""

    uri: str
    client: MlflowClient
    experiment_id: str
    experiment: str


def connect(tracking_uri: str | None = None, experiment: str | None = None) -> Connection:
    """Connects MLflow to a store: the given one, else ``MLFLOW_TRACKING_URI``, else the folder's ``mlflow.db``.

    The experiment is the given one, else MLflow's environment variables say, else ``inversion``; made if need be.

    Raises:
        NoTrackingError: the server does not answer, or refuses.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    uri = mlflow.get_tracking_uri()
    require_answer(uri)
    try:
        with initialisation_lock(uri):
            client = MlflowClient()  # makes the tables of a fresh database
            client.search_experiments(view_type=ViewType.ALL, max_results=1)
            experiment_id, name = _experiment(client, experiment)
    except MlflowException as error:
        raise NoTrackingError(f"tracking store {without_password(uri)}: {first_line(error)}") from error
    return Connection(uri, client, experiment_id, name)


def require_answer(uri: str) -> None:
    """Asks a tracking server or database once: MLflow itself would go on trying for minutes.

    Raises:
        NoTrackingError: nothing answers there.
    """
    if uri.startswith(("http://", "https://")):
        _require_server(uri)
    elif uri.partition("://")[0].partition("+")[0] in DATABASE_ENGINES:
        _require_database(uri)


def without_password(uri: str) -> str:
    """An address that can be shown: ``postgresql://me:***@host/runs``."""
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", uri)


def _require_server(uri: str) -> None:
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        raise NoTrackingError(f"tracking server {without_password(uri)} does not answer ({type(error).__name__}). "
                              "Start it with `mlflow server`, or give another --tracking-uri.") from error


def _require_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    limit = {"connect_timeout": ANSWER_SECONDS} if uri.startswith(("postgresql", "mysql")) else {}
    try:
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///").partition("?")[0]).parent.mkdir(parents=True, exist_ok=True)
        create_engine(uri, connect_args=limit, poolclass=NullPool).connect().close()
    except (SQLAlchemyError, OSError, ImportError) as error:  # ImportError: the database's driver is not installed
        raise NoTrackingError(f"tracking store {without_password(uri)} cannot be opened: {first_line(error)}. "
                              "Give another --tracking-uri.") from error


def initialisation_lock(uri: str) -> FileLock:
    """Lets one process at a time meet a fresh database: several at once break it in MLflow's migrations."""
    key = hashlib.sha256(str(Path.cwd() if ":///" in uri else "").encode() + uri.encode()).hexdigest()[:16]
    user = getattr(os, "getuid", int)()  # nobody may open another user's file in the folder of temporary files
    return FileLock(Path(tempfile.gettempdir()) / f"inversion-tracking-{user}-{key}.lock")


def _experiment(client: MlflowClient, name: str | None) -> tuple[str, str]:
    if not name and (experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        return experiment_id, client.get_experiment(experiment_id).name
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    existing = client.get_experiment_by_name(name)
    if existing is None:
        return client.create_experiment(name), name
    if existing.lifecycle_stage == "deleted":
        raise NoTrackingError(f"experiment {name!r} was deleted. Restore it with `mlflow experiments restore "
                              f"-x {existing.experiment_id}`, or give another --experiment.")
    return existing.experiment_id, name


def first_line(error: Exception) -> str:
    """An error of another library on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
