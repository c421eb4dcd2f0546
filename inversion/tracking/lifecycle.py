"""Beginning and ending runs: who works on them, with which status and why they ended."""

from __future__ import annotations

import os
from collections.abc import Mapping

from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME, MLFLOW_SOURCE_TYPE, MLFLOW_USER

from inversion.errors import InversionError, RequestError
from inversion.tracking.connection import Connection, in_our_words
from inversion.tracking.deleted import deletion_behind
from inversion.tracking.masking import safe
from inversion.tracking.owner import owner_tags

MESSAGE_LENGTH = 5000
"""MLflow takes tags of at most so many characters."""

FAILURE, FAILURE_MESSAGE, MICRO_BATCH = "inversion.failure", "inversion.failure_message", "inversion.micro_batch"


def create_run(connection: Connection, name: str, tags: Mapping[str, str], source: str) -> str:
    """A new run of this process, with tags from the first moment on: it can be found however soon the process dies.

    Raises:
        ExperimentDeletedError: the experiment was deleted since this process connected to it.
    """
    made_by = {MLFLOW_SOURCE_NAME: source, MLFLOW_SOURCE_TYPE: "LOCAL", MLFLOW_USER: _user()}
    try:
        run = connection.client.create_run(connection.experiment_id, tags={**made_by, **owner_tags(), **tags},
                                           run_name=name)
    except MlflowException as error:
        if (deletion := deletion_behind(connection, error)) is None:
            raise
        raise deletion from error
    return str(run.info.run_id)


def take_over(client: MlflowClient, run_id: str) -> None:
    """Makes an existing run one of this process, RUNNING; what its checkpoint still says of it is told again."""
    # first the owner: a RUNNING run of the process that was killed would be ended by `inversion doctor`
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in owner_tags().items()])
    client.update_run(run_id, status=RunStatus.to_string(RunStatus.RUNNING))
    _remove_tags(client, run_id, FAILURE, FAILURE_MESSAGE, MICRO_BATCH)


def end_run(client: MlflowClient, run_id: str, status: str, failure: str = "", message: str = "") -> None:
    """Ends a run with a status; a failure's kind and message become tags."""
    if failure:
        client.set_tag(run_id, FAILURE, failure)
        client.set_tag(run_id, FAILURE_MESSAGE, message[:MESSAGE_LENGTH])
    elif status == RunStatus.to_string(RunStatus.FINISHED):  # somebody may have taken it for dead meanwhile
        _remove_tags(client, run_id, FAILURE, FAILURE_MESSAGE)
    client.set_terminated(run_id, status)


def _remove_tags(client: MlflowClient, run_id: str, *names: str) -> None:
    known = client.get_run(run_id).data.tags
    for name in names:
        if name in known:
            client.delete_tag(run_id, name)


def require_same_digest(connection: Connection, run_id: str, digest: str) -> None:
    """Raises a RequestError if the run to resume was made from something else than what lies there now."""
    before = connection.client.get_run(run_id).data.tags.get("inversion.digest")
    if before != digest:
        raise RequestError(f"run {run_id} cannot be resumed: its photographs, weights or version are not those it was "
                           f"begun with (digest {before}, now {digest})")


def describe_failure(error: BaseException) -> tuple[str, str, str]:
    """Status, failure kind and message of a run that an error ended; no password is in it."""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", "interrupted", "interrupted"
    error = in_our_words(error) or error
    if isinstance(error, InversionError):
        return error.status, error.kind, safe(str(error)) or error.kind
    return "FAILED", "error", safe(f"{type(error).__name__}: {error}".removesuffix(": "))


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in some containers
        return str(os.getuid())
