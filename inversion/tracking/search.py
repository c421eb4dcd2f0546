"""Finding runs: by id, by name or by a filter, and the configuration that they logged."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from inversion.config.document import DocumentError, NoDocumentError, read_document
from inversion.errors import MissingArtifactError, RequestError, UnknownNameError
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import is_deleted, restore_hint
from inversion.tracking.masking import without_password
from inversion.tracking.store_errors import raise_unless_missing

T = TypeVar("T")
PAGE = 1000
MALFORMED = "INVALID_PARAMETER_VALUE"
"""MLflow's error code for a malformed run id."""

CONFIG, CONFIG_FILE = "inversion.config", "config.json"
"""The tag and the artifact with a run's resolved configuration."""

KIND = "inversion.kind"
EVALUATES = "inversion.evaluates"
"""Tag of an evaluation: the id of the run that it scores again."""

ID = re.compile("[0-9a-f]{32}")
ID_DIGITS = 8
"""As many digits of an id as are shown in a terminal: enough to name the run in a command."""

BEGINNING = re.compile("[0-9a-f]{4,31}")
NOT_TRAINED = {"study": "is a study: give one of its runs", "driver": "only started a study: give one of its runs",
               "evaluation": "is an evaluation, and has no model of its own: give the run it evaluates",
               "optimize": "inverted images by optimisation, and has no model"}
NAMES_LISTED = 10


def find_run(connection: Connection, run_id: str) -> Run:
    """A run by its id.

    Raises:
        RequestError: there is no such run, or it was deleted.
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


def search(connection: Connection, condition: str) -> Iterator[Run]:
    """Runs of the experiment that match a filter of MLflow, newest first."""
    yield from search_in(connection, [connection.experiment_id], condition)


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


def choose_run(connection: Connection, text: str, everywhere: bool = True) -> Run:
    """The FINISHED training run that the user means.

    Args:
        connection: the tracking store.
        text: a run id, its first 4 or more digits, or a run name. Of several runs of a name, the FINISHED one is meant.
        everywhere: whether to search in all experiments, or in the connection's only.

    Raises:
        UnknownNameError: no run matches; the nearest name is suggested.
        RequestError: several match, or the run is not a finished training run.
    """
    return require_trained(_choose(connection, text, _experiments(connection, everywhere)))


def require_trained(run: Run) -> Run:
    """Returns the run if it is a finished training run.

    Raises:
        RequestError: it is not; the message says what it is.
    """
    name, kind = described(run), run.data.tags.get(KIND)
    if kind in NOT_TRAINED:
        raise RequestError(f"{name} {NOT_TRAINED[kind]}")
    if kind != "run":
        raise RequestError(f"{name} was not created by inversion, or has not started training")
    if run.info.status != "FINISHED":
        raise RequestError(f"{name} is {run.info.status}: only a FINISHED run has a model")
    return run


def described(run: Run) -> str:
    """A run for a message: ``run ID (NAME)``."""
    return f"run {run.info.run_id} ({run.info.run_name})"


def _choose(connection: Connection, text: str, experiments: list[str]) -> Run:
    if ID.fullmatch(text):
        return find_run(connection, text)
    found: list[Run] = []
    if BEGINNING.fullmatch(text):
        found = _search(connection, experiments, f"attributes.run_id LIKE '{text}%'")
    if not found and not ("'" in text and '"' in text):  # MLflow's filter language has no escapes
        quote = '"' if "'" in text else "'"
        found = _search(connection, experiments, f"attributes.run_name = {quote}{text}{quote}")
        trained = [run for run in found if run.data.tags.get(KIND) == "run" and run.info.status == "FINISHED"]
        found = trained or found
    if len(found) > 1:
        ids = ", ".join(run.info.run_id for run in found[:NAMES_LISTED])
        raise RequestError(f"{len(found)} runs are called {text!r}: give one by its id ({ids})")
    if not found:
        raise _unknown(connection, text, experiments)
    return found[0]


def _unknown(connection: Connection, text: str, experiments: list[str]) -> UnknownNameError:
    condition = f"tags.`{KIND}` = 'run' and attributes.status = 'FINISHED'"
    names = list(dict.fromkeys(str(run.info.run_name) for run in _search(connection, experiments, condition)))
    nearest = difflib.get_close_matches(text, names, n=NAMES_LISTED, cutoff=0) if names else ["no finished run at all"]
    return UnknownNameError(f"no run in {without_password(connection.uri)} is called", text, nearest)


def _search(connection: Connection, experiments: Sequence[str], condition: str) -> list[Run]:
    return list(islice(search_in(connection, experiments, condition), PAGE))


def _experiments(connection: Connection, everywhere: bool) -> list[str]:
    if not everywhere:
        return [connection.experiment_id]
    return [experiment.experiment_id for experiment in pages(
        lambda token: connection.client.search_experiments(max_results=PAGE, page_token=token))]
