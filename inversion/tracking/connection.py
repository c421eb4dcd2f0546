"""Reaching a tracking store: which one, whether it answers, and creating its database once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import mlflow
import requests
from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient

from inversion.errors import InversionError, RequestError, UnknownNameError
from inversion.tracking.locks import alone_at, sqlite_file

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


def is_lost(error: BaseException) -> bool:
    """Whether an error says that the store is away, and not that it refuses.

    MLflow's client tries again by itself, but not when the server dies in the middle of an answer.
    """
    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() >= 500)
    return isinstance(error, requests.RequestException)


@dataclass(frozen=True)
class Connection:
    """A tracking store that answers, and the experiment in it; ``is_given``: by whoever asked, not by default."""

    uri: str
    client: MlflowClient
    experiment_id: str
    experiment: str
    is_given: bool = False


def connect(tracking_uri: str | None = None, experiment: str | None = None, *, create: bool = True) -> Connection:
    """Connects MLflow to a store: the given one, else ``MLFLOW_TRACKING_URI``, else the folder's ``mlflow.db``.

    The experiment is the given one, else MLflow's environment variables say, else ``inversion``; made if need be,
    unless ``create`` is false: who only reads must not leave an experiment behind for a name that was mistyped.

    Raises:
        NoTrackingError: the server does not answer, or refuses.
        UnknownNameError: there is no such experiment, and none is to be made.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    uri = mlflow.get_tracking_uri()
    require_answer(uri)
    try:
        with alone_at(uri):  # several processes at once break a fresh database in MLflow's migrations
            client = MlflowClient()  # makes the tables of a fresh database
            client.search_experiments(view_type=ViewType.ALL, max_results=1)
            experiment_id, name = _experiment(client, uri, experiment, create)
    except (MlflowException, OSError) as error:  # OSError: of the connection, or of the lock
        raise NoTrackingError(f"tracking store {without_password(uri)}: {first_line(error)}") from error
    return Connection(uri, client, experiment_id, name, bool(experiment))


def require_file(tracking_uri: str | None) -> None:
    """For who is to make nothing: raises a NoTrackingError if a store is a file that is not there."""
    uri = tracking_uri or mlflow.get_tracking_uri()
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise NoTrackingError(f"tracking store {without_password(uri)} is not there. Give another --tracking-uri.")


def is_server(uri: str) -> bool:
    """Whether a tracking store is a server, which other machines reach too, and no file or folder."""
    return "://" in uri and not uri.startswith(("file:", "sqlite:"))


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
    uri = re.sub(r"(://[^:/@]*):(?:[^/]*|[^@]*)@", r"\1:***@", uri)  # SQLAlchemy allows a slash in a password
    return re.sub(r"([?&]password=)[^&]*", r"\1***", uri)


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
    except (SQLAlchemyError, OSError, ImportError, ValueError) as error:  # no driver, or a port that is no number
        raise NoTrackingError(f"tracking store {without_password(uri)} cannot be opened: {first_line(error)}. "
                              "Give another --tracking-uri.") from error


def _experiment(client: MlflowClient, uri: str, name: str | None, create: bool) -> tuple[str, str]:
    if not name and (experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        by_id = client.get_experiment(experiment_id)
        _require_active(by_id)
        return experiment_id, by_id.name
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    existing = client.get_experiment_by_name(name)
    if existing is None and not create:
        known = [each.name for each in client.search_experiments()]
        raise UnknownNameError(f"tracking store {without_password(uri)} has no experiment", name, known)
    if existing is None:
        return client.create_experiment(name), name
    _require_active(existing)
    return existing.experiment_id, name


def _require_active(experiment: Experiment) -> None:
    if experiment.lifecycle_stage == "deleted":
        raise NoTrackingError(f"experiment {experiment.name!r} was deleted. Restore it with `mlflow experiments "
                              f"restore -x {experiment.experiment_id}`, or give another --experiment.")


def first_line(error: Exception) -> str:
    """An error of another library on one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
