"""Finding runs that were tracked before, and what they were."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

from inversion.errors import RequestError
from inversion.tracking.connection import Connection, without_password
from inversion.tracking.deleted import is_deleted, restore_hint

T = TypeVar("T")
PAGE = 1000


def find_run(connection: Connection, run_id: str) -> Run:
    """A run by its id.

    Raises:
        RequestError: the store has no such run, or it was deleted.
    """
    try:
        run = connection.client.get_run(run_id)
    except MlflowException as error:
        raise RequestError(f"{without_password(connection.uri)} has no run {run_id!r}") from error
    if is_deleted(run):
        raise RequestError(f"run {run_id} was deleted in MLflow: {restore_hint(run_id)}")
    return run


def document_of(run: Run) -> dict[str, Any]:
    """The resolved configuration that a run left, as ``config.json`` has it.

    Raises:
        RequestError: the run has none.
    """
    if "inversion.config" not in run.data.tags:
        raise RequestError(f"run {run.info.run_id} was not made by inversion, or never began to train")
    document: dict[str, Any] = json.loads(run.data.tags["inversion.config"])
    return document


def search(connection: Connection, condition: str) -> Iterator[Run]:
    """Runs of the experiment that meet a condition in MLflow's filter language, newest first."""
    yield from pages(lambda token: connection.client.search_runs(
        [connection.experiment_id], condition, max_results=PAGE, page_token=token))


def pages(search: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    """What a search finds, page by page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return
