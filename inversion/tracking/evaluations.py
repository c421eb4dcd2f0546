"""Evaluations in MLflow: runs of their own, children of the run that they score again."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from inversion.tracking.connection import Connection
from inversion.tracking.ownership import create_run
from inversion.tracking.tracked_run import TrackedRun, text_of

EVALUATES = "inversion.evaluates"


def begin_evaluation(connection: Connection, experiment_id: str, evaluated: str, name: str,
                     tags: Mapping[str, str]) -> TrackedRun:
    """A new run in an experiment, which MLflow's UI shows below the run that it evaluates."""
    linked = {"inversion.kind": "evaluation", EVALUATES: evaluated, MLFLOW_PARENT_RUN_ID: evaluated, **tags}
    there = Connection(connection.uri, connection.client, experiment_id, connection.experiment)
    return TrackedRun(there, create_run(there, name, linked, "inversion evaluate"))


def log_params(run: TrackedRun, values: Mapping[str, object]) -> None:
    """Parameters beside those that every run has."""
    run.client.log_batch(run.run_id, params=[Param(name, text_of(value)) for name, value in values.items()])
