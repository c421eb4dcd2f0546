"""Finding runs that were tracked before, and what they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from inversion.config.document import DocumentError, NoDocumentError, read_document
from inversion.errors import MissingArtifactError, RequestError
from inversion.tracking.connection import Connection, raise_unless_missing, without_password
from inversion.tracking.deleted import is_deleted, restore_hint

T = TypeVar("T")
PAGE = 1000
MALFORMED = "INVALID_PARAMETER_VALUE"
"""What MLflow says of an id that no run can have."""

CONFIG, CONFIG_FILE = "inversion.config", "config.json"
"""The tag and the artifact that hold a run's configuration."""


def find_run(connection: Connection, run_id: str) -> Run:
    """A run by its id.

    Raises:
        RequestError: the store has no such run, or it was deleted.
    """
    try:
        run = connection.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != MALFORMED:
            raise_unless_missing(error)
        raise RequestError(f"{without_password(connection.uri)} has no run {run_id!r}") from error
    if is_deleted(run):
        raise RequestError(f"run {run_id} was deleted in MLflow: {restore_hint(run_id)}")
    return run


def document_of(run: Run) -> dict[str, Any]:
    """The resolved configuration that a run left, as one of this version, whichever it was written by.

    From the tag, or from ``config.json`` where that has none that can be read: MLflow cuts long tags.

    Raises:
        NoDocumentError: the run has none.
        DocumentError: it cannot be read.
    """
    from inversion.tracking.fetch import fetch_text

    run_id, tag = run.info.run_id, run.data.tags.get(CONFIG)
    in_tag = "is missing"
    if tag is not None:
        try:
            return read_document(tag)
        except DocumentError as error:
            in_tag = str(error)
    elif "inversion.kind" not in run.data.tags:
        raise NoDocumentError(f"run {run_id} was not made by inversion, or never began to train")
    try:
        return read_document(fetch_text(run_id, CONFIG_FILE))
    except DocumentError as error:
        in_file = str(error)
    except MissingArtifactError as error:
        if tag is None:
            raise NoDocumentError(f"run {run_id} was not made by inversion, or never began to train") from error
        in_file = "is missing"
    raise DocumentError(f"the configuration of run {run_id} cannot be read: its tag {CONFIG} {in_tag}, its artifact "
                        f"{CONFIG_FILE} {in_file}. Restore one of them, or train the run again.")


def search(connection: Connection, condition: str) -> Iterator[Run]:
    """Runs of the experiment that meet a condition in MLflow's filter language, newest first."""
    yield from search_in(connection, [connection.experiment_id], condition)


def search_in(connection: Connection, experiments: Sequence[str], condition: str,
              view: int = ViewType.ACTIVE_ONLY) -> Iterator[Run]:
    """The same in these experiments; an empty id is one that is not there yet."""
    there = [experiment_id for experiment_id in experiments if experiment_id]
    if there:
        yield from pages(lambda token: connection.client.search_runs(
            there, condition, view, PAGE, page_token=token))


def pages(search: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    """What a search finds, page by page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return
