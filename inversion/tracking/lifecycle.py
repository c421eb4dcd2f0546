"""How runs end: their status and failure tags, and deletion of a run or its experiment in MLflow."""

from __future__ import annotations

from mlflow.entities import Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from inversion.errors import InversionError
from inversion.tracking.connection import Connection
from inversion.tracking.masking import safe
from inversion.tracking.store_errors import is_refused, to_inversion_error

DELETED = "deleted"
"""MLflow's lifecycle stage of deleted runs and experiments, and the failure kind of a run that was deleted."""

GONE = "RESOURCE_DOES_NOT_EXIST"
REFUSALS = {GONE, "INVALID_PARAMETER_VALUE"}
"""MLflow's error codes for writing to a run that was removed by ``mlflow gc``, and to one that is deleted."""

MESSAGE_LENGTH = 5000
"""MLflow's limit on the length of a tag."""

FAILURE, FAILURE_MESSAGE, MICRO_BATCH = "inversion.failure", "inversion.failure_message", "inversion.micro_batch"


class DeletedError(InversionError):
    """A run was deleted in MLflow while a process worked on it."""

    kind = DELETED


class ExperimentDeletedError(DeletedError):
    """An experiment was deleted in MLflow with all its runs."""


def restore_hint(run_id: str) -> str:
    """How to restore a deleted run."""
    return f"`mlflow runs restore --run-id {run_id}` restores it, until `mlflow gc` removes it"


def is_deleted(run: Run) -> bool:
    """Whether a run was deleted; MLflow still returns it by its id."""
    return bool(run.info.lifecycle_stage == DELETED)


def find_active(connection: Connection, run_id: str) -> Run | None:
    """A run by its id; None if it was deleted or removed for good."""
    run = _find(connection, run_id)
    return None if run is None or is_deleted(run) else run


def require_experiment(connection: Connection, experiment_id: str | None = None) -> None:
    """Raises an ExperimentDeletedError if an experiment, by default the connection's, was deleted."""
    wanted = experiment_id or connection.experiment_id
    try:
        experiment = connection.client.get_experiment(wanted)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        raise ExperimentDeletedError(f"the experiment {connection.experiment!r} was deleted in MLflow for good, with "
                                     "every run in it. The same command creates it again and starts over.") from error
    if experiment.lifecycle_stage == DELETED:
        raise ExperimentDeletedError(f"the experiment {experiment.name!r} was deleted in MLflow, with every run in it. "
                                     f"Restore it with `mlflow experiments restore -x {wanted}`, and run the same "
                                     "command again.")


def deletion_behind(connection: Connection, error: BaseException, run_id: str | None = None) -> DeletedError | None:
    """The deletion of a run or its experiment that caused an error of MLflow; None if it has another cause."""
    if not (isinstance(error, MlflowException) and error.error_code in REFUSALS):
        return None
    try:
        run = _find(connection, run_id) if run_id else None
        require_experiment(connection, run.info.experiment_id if run else None)
    except DeletedError as deletion:
        return deletion
    except MlflowException:  # report the first error
        return None
    if run_id is None or (run is not None and not is_deleted(run)):
        return None
    how = restore_hint(run_id) if run else "for good"
    return DeletedError(f"run {run_id} was deleted in MLflow while in progress: {how}")


def _find(connection: Connection, run_id: str) -> Run | None:
    try:
        return connection.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        return None


def end_run(client: MlflowClient, run_id: str, status: str, failure: str = "", message: str = "") -> None:
    """Ends a run with a status, also if its tags cannot be changed; a failure's kind and message become tags."""
    try:
        if failure:
            client.set_tag(run_id, FAILURE, failure)
            client.set_tag(run_id, FAILURE_MESSAGE, message[:MESSAGE_LENGTH])
        elif status == RunStatus.to_string(RunStatus.FINISHED):  # it may have been declared dead meanwhile
            remove_tags(client, run_id, FAILURE, FAILURE_MESSAGE)
    except MlflowException as error:
        if is_refused(error):
            client.set_terminated(run_id, status)
        raise
    client.set_terminated(run_id, status)


def remove_tags(client: MlflowClient, run_id: str, *names: str) -> None:
    known = client.get_run(run_id).data.tags
    for name in names:
        if name in known:
            client.delete_tag(run_id, name)


def describe_failure(error: BaseException) -> tuple[str, str, str]:
    """Status, failure kind and message of a run that an error ended; passwords are masked."""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED", "interrupted", "interrupted"
    error = to_inversion_error(error) or error
    if isinstance(error, InversionError):
        return error.status, error.kind, safe(str(error)) or error.kind
    return "FAILED", "error", safe(f"{type(error).__name__}: {error}".removesuffix(": "))
