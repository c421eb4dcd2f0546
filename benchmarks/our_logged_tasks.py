"""The tasks of ``bench`` that log to MLflow, done by the project.

They have a module of their own, so that the peak of memory of the others is without MLflow, as the reference's is.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import EPOCHS, TWENTIETH, Tasks, timed
from benchmarks.prepared import prepare_run, trainer_of
from inversion.runs import train as run_module
from inversion.runs.prepare import size_metrics
from inversion.runs.train import train_steps
from inversion.tracking import results
from inversion.tracking.connection import connect
from inversion.tracking.tracked_run import TrackedRun, begin_run
from inversion.training.callbacks import Callback
from inversion.training.cotraining import run_alone
from inversion.training.further_scores import FurtherScores

TASKS = Tasks()


@TASKS.add("evaluate")
def evaluate(folder: Path, encoder: str) -> dict[str, float]:
    """All that a run does at its end, logged to MLflow, but for the packed model, which the reference does not make."""
    prepared = prepare_run(folder, encoder=encoder, epochs=1)
    results.log_model = lambda *_: None
    with tempfile.TemporaryDirectory() as scratch:
        run = begin_run(connect(f"sqlite:///{scratch}/mlflow.db", "bench"), "evaluation", None, {})
        trainer = trainer_of(prepared, scratch)
        trainer._calibrate()
        size_metrics(trainer)
        further = FurtherScores(trainer.engine, prepared.plan.config.image_size)
        seconds = timed(lambda: run_module.finish(run, prepared, trainer, further), 1, 0)
        return {"value": seconds / len(prepared.photos.names("test"))}


@TASKS.add("run")
def whole_run(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds of a whole run with everything that it logs, the decoding of its photographs included."""
    with tempfile.TemporaryDirectory() as scratch:
        connection = connect(f"sqlite:///{scratch}/mlflow.db", "bench")
        limits = {f"{split}_limit": count for split, count in TWENTIETH.items()}
        began = time.perf_counter()
        prepared = prepare_run(folder, encoder=encoder, epochs=EPOCHS, data_dir=str(Path(scratch) / "cache"), **limits)
        result = run_alone(train_steps(prepared, connection, [Callback()]))
        seconds = time.perf_counter() - began
    return {"value": seconds, "train_seconds": result.metrics["train_seconds"]}


@TASKS.add("tracking")
def tracking(folder: Path, encoder: str) -> dict[str, float]:
    """Seconds an epoch that go into MLflow, without the model and the scores at the end."""
    spent = 0.0

    def clocked(method: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal spent
            began = time.perf_counter()
            try:
                return method(*arguments, **named)
            finally:
                spent += time.perf_counter() - began

        return call

    for name in ("on_epoch", "on_pictures", "on_checkpoint"):
        setattr(TrackedRun, name, clocked(getattr(TrackedRun, name)))
    with tempfile.TemporaryDirectory() as scratch:
        connection = connect(f"sqlite:///{scratch}/mlflow.db", "bench")
        prepared = prepare_run(folder, encoder=encoder, epochs=30, train_limit=4, val_limit=4, test_limit=1)
        run_alone(train_steps(prepared, connection))
    return {"value": spent / 30}
