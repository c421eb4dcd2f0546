"""Reaching a tracking store: which one, whether it answers, and creating its database once."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import mlflow
import requests
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient

from inversion.errors import InversionError, RequestError, UnknownNameError
from inversion.tracking import file_store
from inversion.tracking.address import install_hint, read_store
from inversion.tracking.address import is_server as is_server
from inversion.tracking.locks import absolute, alone_at, sqlite_file
from inversion.tracking.masking import first_line as first_line
from inversion.tracking.masking import without_password as without_password
from inversion.tracking.moved import find_moves
from inversion.tracking.tables import is_queue

DEFAULT_EXPERIMENT = "inversion"
STORE_VARIABLE = "MLFLOW_TRACKING_URI"
ANSWER_SECONDS = 10
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""MLflow's bars for small files, and addresses that it prints twice a run."""

_logger = logging.getLogger(__name__)


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
    is_given = bool(tracking_uri) or mlflow.is_tracking_uri_set()
    uri = find_store(tracking_uri)
    if uri != mlflow.get_tracking_uri():
        mlflow.set_tracking_uri(uri)
    require_answer(uri)
    try:
        with alone_at(uri):  # several processes at once break a fresh database in MLflow's migrations
            client = MlflowClient()  # makes the tables of a fresh database
            client.search_experiments(view_type=ViewType.ALL, max_results=1)
            experiment_id, name = _experiment(client, uri, experiment, create)
        find_moves(client, uri)
    except (MlflowException, OSError) as error:  # OSError: of the connection, or of the lock
        raise NoTrackingError(f"tracking store {without_password(uri)}: {first_line(error)}") from error
    _note_old_store(uri, client, is_given)
    return Connection(uri, client, experiment_id, name, bool(experiment))


def find_store(tracking_uri: str | None) -> str:
    """The address of the given store, else of ``MLFLOW_TRACKING_URI``'s, else of the folder's ``mlflow.db``.

    An old store of files in the folder (``mlruns``) is MLflow's own choice before ``mlflow.db``: it is taken where
    MLflow opens such stores, or there is no ``mlflow.db``.

    Raises:
        NoTrackingError: what is given is no address.
    """
    try:
        if tracking_uri:
            return read_store(tracking_uri, "--tracking-uri")
        if mlflow.is_tracking_uri_set():
            return read_store(mlflow.get_tracking_uri(), STORE_VARIABLE)
    except RequestError as error:
        raise NoTrackingError(str(error)) from error
    uri = absolute(mlflow.get_tracking_uri())
    own = Path("mlflow.db").absolute()
    takes_own = file_store.folder_of(uri) is not None and own.exists() and not file_store.is_allowed()
    return absolute(f"sqlite:///{own}") if takes_own else uri


def require_file(tracking_uri: str | None) -> None:
    """For who is to make nothing: raises a NoTrackingError if a store is a file that is not there."""
    uri = find_store(tracking_uri)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise NoTrackingError(f"tracking store {without_password(uri)} is not there. Give another --tracking-uri.")


def require_answer(uri: str) -> None:
    """Asks a tracking server or database once: MLflow itself would go on trying for minutes.

    Raises:
        NoTrackingError: nothing answers there.
    """
    if uri.startswith(("http://", "https://")):
        _require_server(uri)
    elif uri.partition("://")[0].partition("+")[0] in DATABASE_ENGINES:
        _require_database(uri)
    elif (folder := file_store.folder_of(uri)) and not file_store.is_allowed():
        raise NoTrackingError(f"tracking store {uri} {file_store.why_refused(folder)}.")


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
        if file := sqlite_file(uri):
            file.parent.mkdir(parents=True, exist_ok=True)
        with create_engine(uri, connect_args=limit, poolclass=NullPool).connect() as database:
            if is_queue(database):
                raise NoTrackingError(f"tracking store {without_password(uri)} is the queue of inversion-sweep. Give "
                                      "another --tracking-uri.")
    except (SQLAlchemyError, OSError, ImportError, ValueError) as error:  # no driver, or a port that is no number
        raise NoTrackingError(f"tracking store {without_password(uri)} cannot be opened: {first_line(error)}."
                              f"{install_hint(error)} Give another --tracking-uri.") from error


def _note_old_store(uri: str, client: MlflowClient, is_given: bool) -> None:
    """Says which store was taken where nobody named one and MLflow would have had two to choose from."""
    old = Path("mlruns").absolute()
    run_id = None if is_given else file_store.a_run_of(old)
    if run_id is None:
        return
    command = file_store.migration(old, file_store.database_for(old))
    if file_store.folder_of(uri) == old:
        _logger.warning("tracking store %s: the old store of files in this folder was taken. Into a database with: %s",
                        uri, command)
        return
    try:
        client.get_run(run_id)
    except MlflowException:
        _logger.warning("tracking store %s: the runs of the old store of files %s are not in it. Into a database of "
                        "their own with: %s", uri, old, command)


def _experiment(client: MlflowClient, uri: str, name: str | None, create: bool) -> tuple[str, str]:
    if not name and (experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        return experiment_id, client.get_experiment(experiment_id).name
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    existing = client.get_experiment_by_name(name)
    if existing is None and not create:
        known = [each.name for each in client.search_experiments()]
        raise UnknownNameError(f"tracking store {without_password(uri)} has no experiment", name, known)
    if existing is None:
        return client.create_experiment(name), name
    if existing.lifecycle_stage == "deleted":
        raise NoTrackingError(f"experiment {name!r} was deleted. Restore it with `mlflow experiments restore "
                              f"-x {existing.experiment_id}`, or give another --experiment.")
    return existing.experiment_id, name
