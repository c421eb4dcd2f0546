"""Opening an existing study for a command: its tracking store, its experiment and its queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from inversion.errors import InterruptedRunError, InversionError, RequestError, UnknownNameError
from inversion.files import is_there
from inversion.sweeps.queue.storage import (
    QueueLostError,
    QueueRefusedError,
    has_queue,
    open_storage,
    require_apart,
    require_place,
    require_queue,
)
from inversion.sweeps.study.set_up import locate_queue
from inversion.sweeps.study.study import Study, follow_store, in_its_experiment, open_study, require_same_store
from inversion.tracking.address import sqlite_file
from inversion.tracking.connection import Connection, connect, find_store
from inversion.tracking.masking import without_password
from inversion.tracking.store_errors import NoStoreError, TrackingLostError, is_refused, reason, to_inversion_error
from inversion.tracking.study import in_experiment_of, require_study
from inversion.training.stop import StopRequest

Options = Mapping[str, Any]


def connect_to_study(name: str, options: Options) -> Connection:
    """Connects to the experiment that has a study, or to the given one or the default; creates nothing."""
    require_apart(options["storage"], find_store(options["tracking_uri"]))
    # not required: if the default experiment does not exist, the study may be in another one, which its queue knows
    connection = connect(options["tracking_uri"], options["experiment"], create=False, required=False)
    return in_experiment_of(connection, name)


def find_place(name: str, options: Options) -> str:
    """The address of the queue in which a study is to be set up. Creates nothing, as the request may be refused yet.

    Raises:
        RequestError: as ``locate_queue``; or it is the database of a tracking store, or cannot be opened.
    """
    uri = find_store(options["tracking_uri"])
    require_apart(options["storage"], uri)
    try:
        connection = connect(options["tracking_uri"], options["experiment"], create=False, required=False)
    except NoStoreError:  # it is created when the study is set up
        return require_place(options["storage"], uri)
    url = locate_queue(options["storage"], connection, name)
    require_queue(url)
    return url


@contextmanager
def service_errors(stop: StopRequest | None = None) -> Iterator[None]:
    """Turns errors of the tracking store and of the queue's database into one-line errors.

    Raises:
        InversionError: which of the two is unreachable or rejects a request, and why.
        InterruptedRunError: the same, after a stop was requested.
    """
    try:
        yield
    except Exception as error:
        ours = _queue_error(error) or to_inversion_error(error, "Run the same command again when it answers.")
        ours = error if isinstance(error, TrackingLostError | QueueLostError) else ours
        if ours is None:
            raise
        if stop is not None and stop.reason is not None:
            raise InterruptedRunError(f"{stop.reason}; {ours}") from error
        if ours is error:
            raise
        raise ours from error


def _queue_error(error: Exception) -> InversionError | None:
    """The error to raise for an error of the queue's database, from Optuna or SQLAlchemy; MLflow wraps its own."""
    if not isinstance(error, SQLAlchemyError | StorageInternalError):
        return None
    if is_refused(error):
        return QueueRefusedError(f"the queue's database rejects the request: {reason(error)}")
    return QueueLostError(f"the queue's database does not answer: {reason(error)}. "
                          "Run the same command again when it does.")


def join(name: str, connection: Connection, url: str, stop: StopRequest | None = None) -> Study:
    """The queued study of a name, for a command that adds nothing.

    Raises:
        RequestError: there is none; the message names the tracking store and the queue.
    """
    if not has_queue(url):
        _refuse(name, connection, url)
    study = open_study(open_storage(url, stop=stop), name, stop)
    follow_store(study.queue.study, connection)
    require_same_store(study.queue.study, connection.uri)
    return study


def open_existing(name: str, options: Options) -> tuple[Study, Connection]:
    """A study to look at or to change, with the connection to its experiment; dead workers' runs are requeued.

    Raises:
        RequestError: there is no such study; as ``connect_to_study`` and ``join``.
    """
    connection = connect_to_study(name, options)
    study = join(name, connection, locate_queue(options["storage"], connection, name))
    connection = in_its_experiment(study.queue.study, connection)
    study.queue.recover_stale_trials()
    return study, connection


def _refuse(name: str, connection: Connection, url: str) -> NoReturn:
    """Raises the error for a study without a queue: it may be misspelt, of another folder, or have lost its queue."""
    tracking, queue, file = without_password(connection.uri), without_password(url), sqlite_file(url)
    is_missing = "does not exist, so it " if file is not None and not is_there(file) else ""
    try:
        require_study(connection, name)
    except UnknownNameError:  # names the studies that there are
        raise
    except RequestError as error:
        raise RequestError(f"queue {queue} {is_missing}has no study {name!r}, and none at all, nor has tracking store "
                           f"{tracking}: run inversion-sweep with its spec first, or in the folder of the study, or "
                           "give --tracking-uri and --storage") from error
    raise RequestError(f"tracking store {tracking} has study {name}, but its queue {queue} is missing or empty: give "
                       "--storage, or run inversion-sweep with its spec")
