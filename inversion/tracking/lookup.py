"""Finding runs that were tracked before, and what they were."""

from __future__ import annotations

import json
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from inversion.errors import RequestError
from inversion.tracking.connection import Connection, without_password


def find_run(connection: Connection, run_id: str) -> Run:
    """A run by its id.

    Raises:
        RequestError: the store has no such run.
    """
    try:
        return connection.client.get_run(run_id)
    except MlflowException as error:
        raise RequestError(f"{without_password(connection.uri)} has no run {run_id!r}") from error


def document_of(run: Run) -> dict[str, Any]:
    """The resolved configuration that a run left, as ``config.json`` has it.

    Raises:
        RequestError: the run has none.
    """
    if "inversion.config" not in run.data.tags:
        raise RequestError(f"run {run.info.run_id} was not made by inversion, or never began to train")
    document: dict[str, Any] = json.loads(run.data.tags["inversion.config"])
    return document
