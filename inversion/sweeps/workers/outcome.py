"""The outcome of a finished training run: whether it is complete, its objective, its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inversion.tracking.connection import Connection

if TYPE_CHECKING:
    from mlflow.entities import Run

SCORES = ("test/psnr", "test/ssim", "test/lpips", "best/val_psnr", "best/val_loss", "train_seconds")
"""Metrics that are copied to the trial, for the live table and optuna-dashboard."""


def is_complete(run: Run, objective: str) -> bool:
    """Whether a run has a result. Its status can be edited in MLflow; the metrics of the best epoch are logged last."""
    last = objective if objective.startswith("best/") else "best_epoch"
    return run.info.status == "FINISHED" and last in run.data.metrics


def value_of(connection: Connection, run: Run, objective: str) -> float:
    """The objective of a complete run; of a metric that is logged by epoch, the value at the best epoch."""
    metrics = run.data.metrics
    if objective.startswith("best/"):
        return float(metrics[objective])
    history = connection.client.get_metric_history(run.info.run_id, objective)
    return next(point.value for point in history if point.step == metrics["best_epoch"])


def scores_of(run: Run) -> dict[str, float]:
    """Those of ``SCORES`` that a run has logged."""
    return {name: run.data.metrics[name] for name in SCORES if name in run.data.metrics}
