"""Runs and experiments that were deleted in MLflow: they are there until ``mlflow gc``, and take nothing any more."""

from __future__ import annotations

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from inversion.errors import InversionError
from inversion.tracking.connection import Connection

DELETED = "deleted"
"""What MLflow calls the stage of a run or an experiment, and the failure kind of a run that this ended."""

GONE = "RESOURCE_DOES_NOT_EXIST"
REFUSALS = {GONE, "INVALID_PARAMETER_VALUE"}
"""What MLflow answers to who writes into a run that is gone for good, and into one that is deleted."""


class DeletedError(InversionError):
    """A run was deleted in MLflow while somebody worked on it."""

    kind = DELETED


class ExperimentDeletedError(DeletedError):
    """An experiment was deleted in MLflow, and every run in it."""


def restore_hint(run_id: str) -> str:
    """How a deleted run is brought back."""
    return f"`mlflow runs restore --run-id {run_id}` brings it back, until `mlflow gc` removes it"


def is_deleted(run: Run) -> bool:
    """Whether it was deleted; MLflow gives it all the same to who asks by its id."""
    return bool(run.info.lifecycle_stage == DELETED)


def find_active(connection: Connection, run_id: str) -> Run | None:
    """A run by its id; None if it was deleted, or is gone for good."""
    run = _find(connection, run_id)
    return None if run is None or is_deleted(run) else run


def require_experiment(connection: Connection, experiment_id: str | None = None) -> None:
    """Raises an ExperimentDeletedError if the connection's experiment, or another one, is not there any more."""
    wanted = experiment_id or connection.experiment_id
    try:
        experiment = connection.client.get_experiment(wanted)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        raise ExperimentDeletedError(f"the experiment {connection.experiment!r} was deleted in MLflow for good, with "
                                     "every run in it. The same command makes it again and begins anew.") from error
    if experiment.lifecycle_stage == DELETED:
        raise ExperimentDeletedError(f"the experiment {experiment.name!r} was deleted in MLflow, with every run in it. "
                                     f"Restore it with `mlflow experiments restore -x {wanted}`, and go on with the "
                                     "same command.")


def deletion_behind(connection: Connection, error: BaseException, run_id: str | None = None) -> DeletedError | None:
    """What MLflow's refusal comes from, if it is that the run or its experiment was deleted; None if it is not."""
    if not (isinstance(error, MlflowException) and error.error_code in REFUSALS):
        return None
    try:
        run = _find(connection, run_id) if run_id else None
        require_experiment(connection, run.info.experiment_id if run else None)
    except DeletedError as deletion:
        return deletion
    except MlflowException:  # the first error is the one to show
        return None
    if run_id is None or (run is not None and not is_deleted(run)):
        return None
    how = restore_hint(run_id) if run else "for good"
    return DeletedError(f"run {run_id} was deleted in MLflow while it was worked on: {how}")


def _find(connection: Connection, run_id: str) -> Run | None:
    try:
        return connection.client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != GONE:
            raise
        return None
