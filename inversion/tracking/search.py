"""Finding runs by id or by a filter, and the configuration that they logged; ``choose`` finds those that users name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from inversion.config.document import DocumentError, NoDocumentError, read_document
from inversion.errors import MissingArtifactError, RequestError
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import is_deleted, restore_hint
from inversion.tracking.masking import without_password
from inversion.tracking.store_errors import NoTrackingError, raise_unless_missing

T = TypeVar("T")
PAGE = 1000
MALFORMED = "INVALID_PARAMETER_VALUE"
"""MLflow's error code for a malformed run id."""

CONFIG, CONFIG_FILE = "inversion.config", "config.json"
"""The tag and the artifact with a run's resolved configuration."""

KIND = "inversion.kind"
EVALUATES = "inversion.evaluates"
"""Tag of an evaluation: the id of the run that it scores again."""

EXTENDS = "inversion.extends"
"""Tag of a run that went on from a finished one: the id of that run."""

ID_DIGITS = 8
"""As many digits of an id as are shown in a terminal: enough to name the run in a command."""

NO_RUN = "attributes.run_id = ''"
"""A filter that matches no run."""


def find_run(connection: Connection, run_id: str) -> Run:
    """A run by its id.

    Raises:
        RequestError: there is no such run, or it was deleted.
        NoTrackingError: the store answers with something else.
    """
    try:
        run = connection.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != MALFORMED:
            raise_unless_missing(error)
        raise RequestError(f"{without_password(connection.uri)} has no run {run_id!r}") from error
    if run.info.run_id != run_id:  # an answer without a run, which MLflow's client takes for one without an id
        raise NoTrackingError(f"{without_password(connection.uri)} answers with another run than {run_id!r}: it is not "
                              "an MLflow server, or a proxy changes its answers")
    if is_deleted(run):
        raise RequestError(f"run {run_id} was deleted in MLflow: {restore_hint(run_id)}")
    return run


def document_of(run: Run) -> dict[str, Any]:
    """The resolved configuration of a run, migrated to the current version of the document.

    Read from the tag, or from ``config.json`` if the tag is missing or malformed: MLflow truncates long tags.

    Raises:
        NoDocumentError: the run has no configuration.
        DocumentError: neither the tag nor the artifact can be read.
    """
    from inversion.tracking.artifacts import fetch_text

    run_id, tag = run.info.run_id, run.data.tags.get(CONFIG)
    in_tag = "is missing"
    if tag is not None:
        try:
            return read_document(tag)
        except DocumentError as error:
            in_tag = str(error)
    elif KIND not in run.data.tags:
        raise NoDocumentError(f"run {run_id} was not created by inversion, or has not started training")
    try:
        return read_document(fetch_text(run_id, CONFIG_FILE))
    except DocumentError as error:
        in_file = str(error)
    except MissingArtifactError as error:
        if tag is None:
            raise NoDocumentError(f"run {run_id} was not created by inversion, or has not started training") from error
        in_file = "is missing"
    raise DocumentError(f"the configuration of run {run_id} cannot be read: its tag {CONFIG} {in_tag}, its artifact "
                        f"{CONFIG_FILE} {in_file}. Restore one of them, or train the run again.")


def tagged(name: str, value: str) -> str:
    """The filter of MLflow for runs with this value of a tag."""
    return equals(f"tags.`{name}`", value)


def equals(field: str, value: str) -> str:
    """The filter of MLflow for runs with this value of a field; matches no run where it cannot be written."""
    return _filter(field, "=", value)


def begins(field: str, beginning: str) -> str:
    """The filter of MLflow for runs in which a field begins so; ``_`` and ``%`` stand for any characters."""
    return _filter(field, "LIKE", f"{beginning}%")


def _filter(field: str, operator: str, value: str) -> str:
    """MLflow's filters have no escapes: for a text with both kinds of quotation marks, no run is found."""
    quote = '"' if "'" in value else "'"
    return NO_RUN if quote in value else f"{field} {operator} {quote}{value}{quote}"


def search(connection: Connection, condition: str) -> Iterator[Run]:
    """Runs of the experiment that match a filter of MLflow, newest first."""
    yield from search_in(connection, [connection.experiment_id], condition)


def finished_evaluations(connection: Connection) -> Iterator[Run]:
    """The finished evaluations of the experiment, newest first; the tag ``EVALUATES`` has the run that each scores."""
    yield from search(connection, f"{tagged(KIND, 'evaluation')} and attributes.status = 'FINISHED'")


def search_in(connection: Connection, experiments: Sequence[str], condition: str,
              view: int = ViewType.ACTIVE_ONLY) -> Iterator[Run]:
    """Runs of several experiments that match a filter of MLflow; empty ids stand for missing experiments."""
    existing = [experiment_id for experiment_id in experiments if experiment_id]
    if existing:
        yield from pages(lambda token: connection.client.search_runs(
            existing, condition, view, PAGE, page_token=token))


def pages(search: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    """The results of a paginated search: ``search(token)`` returns the page at a token, None for the first."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return
