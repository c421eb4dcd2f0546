"""Extending a finished run: a new run of more epochs, which begins where the finished one ended.

Its numbers are those of a run of that many epochs from the beginning (bit-identical on a CPU), because nothing in the
first epochs depends on how many follow. The finished run is not changed.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Run

from inversion.config.run_config import RunConfig
from inversion.errors import MissingArtifactError, RequestError
from inversion.runs.prepare import Prepared, make_trainer
from inversion.runs.train import tags_of
from inversion.tracking.artifacts import download_artifact
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import end_run
from inversion.tracking.ownership import create_run
from inversion.tracking.search import EXTENDS
from inversion.tracking.study import DIGEST
from inversion.tracking.tracked_run import TrackedRun
from inversion.training.checkpoint import BEST, LAST, CheckpointError, load_checkpoint, save_checkpoint

MOST_METRICS = 1000
"""MLflow's limit for one request."""


def require_extendable(run: Run, config: RunConfig, epochs: int) -> None:
    """Checks that training on gives the run of ``epochs`` epochs.

    Args:
        run: the run in MLflow.
        config: its configuration.
        epochs: the epochs of the longer run.

    Raises:
        RequestError: it does not, and why.
    """
    run_id, metrics = run.info.run_id, run.data.metrics
    if run.info.status != "FINISHED":
        raise RequestError(f"run {run_id} is {run.info.status}: only a FINISHED run is extended; finish it with "
                           "--resume, without --epochs")
    if epochs <= config.epochs:
        raise RequestError(f"run {run_id} has {config.epochs} epochs: --epochs {epochs} would not extend it")
    if config.schedule != "plateau":
        raise RequestError(f"run {run_id} has schedule={config.schedule}, whose learning rate depends on the number of "
                           f"epochs from the first on: a run of {epochs} epochs has to be trained from the beginning")
    trained, best = metrics.get("epochs_run", config.epochs), metrics.get("best_epoch", config.epochs)
    if trained < config.epochs or trained - best >= config.patience:
        raise RequestError(f"run {run_id} ended by early stopping after epoch {trained:.0f} (patience="
                           f"{config.patience}): with more epochs it would be the same")


def begin_extension(connection: Connection, prepared: Prepared, run: Run, epochs_before: int) -> str:
    """Creates the longer run in MLflow, as one that was interrupted after the epochs of the finished run.

    It is in the same experiment, and gets the metrics of these epochs and the checkpoints. If this process dies before
    that is done, the longer run can be resumed too: it then begins earlier, with the same numbers.

    Args:
        connection: the tracking store.
        prepared: the longer run.
        run: the finished run.
        epochs_before: its epochs.

    Returns:
        The id of the new run, which is to be resumed.

    Raises:
        RequestError: the images, the weights or the version have changed, or the run has no checkpoint.
        CheckpointError: its checkpoint cannot be read, or the longer run cannot go on from it. Nothing is created then.
    """
    plan, run_id = prepared.plan, run.info.run_id
    config = plan.config.model_copy(update={"epochs": epochs_before})
    digest = dataclasses.replace(plan, config=config).digest(prepared.photos.digest)
    if digest != run.data.tags.get(DIGEST):
        raise RequestError(f"run {run_id} cannot be extended: its images, weights or version have changed since it was "
                           f"trained (digest {run.data.tags.get(DIGEST)}, now {digest})")
    with tempfile.TemporaryDirectory() as folder:
        files = [_checkpoint(run_id, name, Path(folder), prepared.digest) for name in (BEST, LAST)]
        with _named_as_artifact(run_id, files[-1]):
            make_trainer(prepared, Path(folder)).load_resumable(files[-1])
        beside = dataclasses.replace(connection, experiment_id=run.info.experiment_id)
        tags = tags_of(prepared) | {EXTENDS: run_id}
        extension = TrackedRun(beside, create_run(beside, plan.name, tags, "inversion train"))
        _copy_history(run, extension)
        extension.upload(files, "checkpoints")
    end_run(connection.client, extension.run_id, "KILLED", "interrupted", f"extends run {run_id}, and has not begun")
    return extension.run_id


def _checkpoint(run_id: str, name: str, folder: Path, digest: str) -> Path:
    """A checkpoint of the finished run, as one of the longer run: it differs in its digest only."""
    try:
        path = download_artifact(run_id, f"checkpoints/{name}", folder)
    except MissingArtifactError as error:
        raise MissingArtifactError(f"{error}, from which it could be extended") from error
    with _named_as_artifact(run_id, path):
        content: dict[str, Any] = load_checkpoint(path)
    save_checkpoint(path, content | {"digest": digest})
    return path


@contextmanager
def _named_as_artifact(run_id: str, path: Path) -> Iterator[None]:
    """Names an unusable checkpoint as the finished run's artifact, not by its temporary copy.

    Raises:
        CheckpointError: that of the block, with that name.
    """
    try:
        yield
    except CheckpointError as error:
        text = str(error).replace(str(path), f"checkpoints/{path.name}")
        raise CheckpointError(f"run {run_id} cannot be extended: {text}") from error


def _copy_history(run: Run, extension: TrackedRun) -> None:
    """Copies the metrics of all epochs. What is logged once, at the end, has step 0; MLflow's system metrics are those
    of the machine at that time, and stay behind."""
    client = extension.client
    points = [Metric(point.key, point.value, point.timestamp, point.step)
              for key in run.data.metrics if not key.startswith("system/")
              for point in client.get_metric_history(run.info.run_id, key) if point.step > 0]
    points.sort(key=lambda point: point.step)
    for start in range(0, len(points), MOST_METRICS):
        client.log_batch(extension.run_id, metrics=points[start:start + MOST_METRICS])
