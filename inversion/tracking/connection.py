"""Connecting to a tracking store: choosing it, checking that it answers, and creating its database once."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import mlflow
import mlflow.environment_variables
from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request_safe
from sqlalchemy import inspect
from sqlalchemy.engine import Connection as Database
from sqlalchemy.exc import SQLAlchemyError

from inversion.errors import RequestError, UnknownNameError
from inversion.files import is_there
from inversion.retry import BUSY
from inversion.tracking import file_store
from inversion.tracking.address import absolute, install_hint, read_store, sqlite_file
from inversion.tracking.artifacts import find_moved_artifacts
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import first_line, without_password
from inversion.tracking.silence import end_silent_waits
from inversion.tracking.store_errors import NoStoreError, NoTrackingError, http_status, is_lost, reason

TRACKING_TABLES = {"experiments", "runs", "latest_metrics"}
QUEUE_TABLES = {"studies", "trials", "version_info"}
DEFAULT_EXPERIMENT = "inversion"
MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
"""The tag with which MLflow's UI shows a new experiment's pages of model training, in versions that look at it."""

STORE_VARIABLE = "MLFLOW_TRACKING_URI"
ANSWER_SECONDS = 10
EXPERIMENTS = "/api/2.0/mlflow/experiments/search"
QUIET = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""Turns off MLflow's progress bars for small files and the URLs that it prints for every run."""

STACKS = "mlflow.store.db.utils"
"""The logger to which MLflow writes the traceback of a database error before it raises it."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Connection:
    """A tracking store that answers, and an experiment in it.

    ``experiment_id`` is empty if the experiment does not exist and was not to be created. ``is_given``: the experiment
    was named explicitly, not taken from the environment or by default.
    """

    uri: str
    client: MlflowClient
    experiment_id: str
    experiment: str
    is_given: bool = False


def connect(tracking_uri: str | None = None, experiment: str | None = None, *, create: bool = True,
            required: bool = True) -> Connection:
    """Connects MLflow to a store: the given one, else ``MLFLOW_TRACKING_URI``, else the folder's ``mlflow.db``.

    Args:
        tracking_uri: the address of the store.
        experiment: its name; by default that of MLflow's environment variables, else ``inversion``.
        create: whether to create a missing store or experiment. Readers pass False, so that a mistyped name leaves
            nothing behind.
        required: whether a given experiment must exist if it is not created.

    Raises:
        NoTrackingError: the store does not answer, or rejects the request; or a variable of MLflow has a wrong value.
        NoStoreError: there is no such store, and ``create`` is false.
        UnknownNameError: there is no such experiment, and ``create`` is false.
    """
    _require_variables()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger(STACKS).setLevel(logging.CRITICAL)
    is_given = bool(tracking_uri) or mlflow.is_tracking_uri_set()
    end_silent_waits()
    uri = find_store(tracking_uri)
    if uri != mlflow.get_tracking_uri():
        mlflow.set_tracking_uri(uri)
    if not create:
        _require_exists(uri)
    require_answer(uri)
    if not create:
        _require_tables(uri)
    try:
        with exclusive_lock(uri, create=create):  # concurrent migrations by MLflow corrupt a new database
            client = MlflowClient()  # creates the tables of a new database
            client.search_experiments(view_type=ViewType.ALL, max_results=1)
            experiment_id, name = _experiment(client, uri, experiment, create, required)
        find_moved_artifacts(client, uri)
    except (MlflowException, SQLAlchemyError, OSError) as error:  # OSError: of the connection, or of the lock
        raise NoTrackingError(f"tracking store {without_password(uri)}: {reason(error)}") from error
    file_store.warn_about_old_store(uri, client, is_given)
    return Connection(uri, client, experiment_id, name, bool(experiment))


def _require_variables() -> None:
    """Raises a NoTrackingError if an environment variable of MLflow has a value that MLflow cannot read.

    MLflow reads each when it needs it: a wrong one would end a run in the middle.
    """
    for variable in vars(mlflow.environment_variables).values():
        if isinstance(variable, mlflow.environment_variables._EnvironmentVariable) and variable.is_set():
            try:
                variable.get()
            except ValueError as error:
                raise NoTrackingError(f"environment variable {variable.name}: {first_line(error)}") from error


def find_store(tracking_uri: str | None) -> str:
    """The address of the given store, else of ``MLFLOW_TRACKING_URI``'s, else of the folder's ``mlflow.db``.

    MLflow itself prefers an old file store in the folder (``mlruns``) to ``mlflow.db``. Here it is used only if MLflow
    opens file stores, or if there is no ``mlflow.db``.

    Raises:
        NoTrackingError: the given address is malformed.
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
    takes_own = file_store.folder_of(uri) is not None and os.path.exists(own) and not file_store.is_allowed()
    return absolute(f"sqlite:///{own}") if takes_own else uri


def require_answer(uri: str) -> None:
    """Sends one request to a tracking server or database: MLflow itself would retry for minutes.

    Raises:
        NoTrackingError: it does not answer, or rejects the request.
    """
    if uri.startswith(("http://", "https://")):
        _require_server(uri)
    elif _is_database(uri):
        _require_database(uri)
    elif (folder := file_store.folder_of(uri)) and not file_store.is_allowed():
        raise NoTrackingError(f"tracking store {uri} {file_store.why_refused(folder)}.")


def _require_server(uri: str) -> None:
    """Sends the first request of MLflow's client, with its certificates and credentials, but without retries."""
    try:
        http_request_safe(get_default_host_creds(uri), EXPERIMENTS, "POST", json={"max_results": 1}, max_retries=0,
                          timeout=ANSWER_SECONDS, raise_on_status=False)
    except (MlflowException, OSError) as error:  # OSError: a certificate that cannot be read
        if http_status(error) in BUSY:  # the server is there: MLflow's client waits for as long as it asks
            return
        server = f"tracking server {without_password(uri)}"
        if is_lost(error):
            raise NoTrackingError(f"{server} does not answer ({reason(error)}). Start it with `mlflow server`, or give "
                                  "another --tracking-uri.") from error
        raise NoTrackingError(f"{server} rejects the request: {reason(error)}") from error


def _require_database(uri: str) -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    limit = {"connect_timeout": ANSWER_SECONDS} if uri.startswith(("postgresql", "mysql")) else {}
    try:
        if file := sqlite_file(uri):
            file.parent.mkdir(parents=True, exist_ok=True)
        with create_engine(uri, connect_args=limit, poolclass=NullPool).connect() as database:
            if is_queue(database):
                raise NoTrackingError(f"tracking store {without_password(uri)} is the queue of inversion-sweep. Give "
                                      "another --tracking-uri.")
    except (SQLAlchemyError, OSError, ImportError, ValueError) as error:  # no driver, or an invalid port
        raise NoTrackingError(f"tracking store {without_password(uri)} cannot be opened: {first_line(error)}."
                              f"{install_hint(error)} Give another --tracking-uri.") from error


def _require_exists(uri: str) -> None:
    """Raises a NoStoreError if a store is a file or folder that does not exist."""
    place = sqlite_file(uri) or file_store.folder_of(uri)
    if place is not None and not is_there(place):
        raise NoStoreError(f"tracking store {without_password(uri)} does not exist. Run the command in the folder "
                           "that has it, or give another --tracking-uri.")


def _require_tables(uri: str) -> None:
    """Raises a NoStoreError if a store is a database without MLflow's tables, which MLflow would create."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if not _is_database(uri):
        return
    try:
        has_tables = inspect(create_engine(uri, poolclass=NullPool)).has_table("experiments")
    except SQLAlchemyError as error:
        raise NoTrackingError(f"tracking store {without_password(uri)}: {reason(error)}") from error
    if not has_tables:
        raise NoStoreError(f"tracking store {without_password(uri)} is empty: nothing has been logged there yet. "
                           "Give another --tracking-uri.")


def _is_database(uri: str) -> bool:
    return uri.partition("://")[0].partition("+")[0] in DATABASE_ENGINES


def _experiment(client: MlflowClient, uri: str, name: str | None, create: bool, required: bool) -> tuple[str, str]:
    if not name and (experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID")):
        by_id = client.get_experiment(experiment_id)
        _require_active(by_id)
        return experiment_id, by_id.name
    required = required and bool(name)
    name = name or os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    existing = client.get_experiment_by_name(name)
    if existing is None and create:
        return client.create_experiment(name, tags=MODEL_TRAINING), name
    if existing is None and required and name != DEFAULT_EXPERIMENT:
        known = [each.name for each in client.search_experiments()]
        raise UnknownNameError(f"tracking store {without_password(uri)} has no experiment", name, known)
    if existing is None:
        return "", name
    _require_active(existing)
    return existing.experiment_id, name


def _require_active(experiment: Experiment) -> None:
    if experiment.lifecycle_stage == "deleted":
        raise NoTrackingError(f"experiment {experiment.name!r} was deleted. Restore it with `mlflow experiments "
                              f"restore -x {experiment.experiment_id}`, or give another --experiment.")


def is_tracking_store(database: Database) -> bool:
    """Whether a database has MLflow's tables."""
    return set(inspect(database).get_table_names()) >= TRACKING_TABLES


def is_queue(database: Database) -> bool:
    """Whether a database has Optuna's tables and not MLflow's."""
    tables = set(inspect(database).get_table_names())
    return tables >= QUEUE_TABLES and not tables >= TRACKING_TABLES
