"""A tracked training run: the work of ``inversion train``, of ``mlflow run`` and of a sweep's workers."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inversion.errors import MissingArtifactError, OutOfMemoryError, PrunedRunError
from inversion.losses.outside import metric_names, outside_metrics
from inversion.runs.description import describe_run
from inversion.runs.further import further_scores
from inversion.runs.jpeg import jpeg_scores
from inversion.runs.prepare import (
    Prepared,
    crops_of_test_set,
    floors_of_test_set,
    make_trainer,
    progress_metrics,
    size_metrics,
)
from inversion.tracking import results
from inversion.tracking.connection import Connection
from inversion.tracking.study import SIDE_BY_SIDE, StudyRun
from inversion.tracking.system_metrics import system_metrics
from inversion.tracking.tracked_run import TrackedRun, begin_run, record_outcome, require_same_digest
from inversion.training.callbacks import Callback, CallbackList
from inversion.training.checkpoint import BEST, LAST, CheckpointError, furthest_checkpoint
from inversion.training.cotraining import CoTrainingGroup, Steps
from inversion.training.evaluate import final_metrics
from inversion.training.floors import floor_metrics
from inversion.training.further_scores import FurtherScores
from inversion.training.measure import PeakMemory
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer

TEST_PICTURES = 8
BEST_SECTION, BEST_PICTURES = "best_reconstructions", 3
"""Section of MLflow's charts, and number of test images in it. MLflow's slider starts at the first step, so that the
validation images are seen before training: these have one step, the best epoch."""

MOST_PICTURES = 200
"""Test images whose reconstructions are logged; a report selects the best and the worst of them."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A finished run: where it is tracked, and its final metrics."""

    run_id: str
    artifact_uri: str
    metrics: dict[str, float]
    pictures: list[str]
    absent: list[str]
    """Scores that could not be computed, a phrase each."""


def train_steps(
    prepared: Prepared,
    connection: Connection,
    callbacks: Sequence[Callback] = (),
    stop: StopRequest | None = None,
    resume: str | None = None,
    study: StudyRun | None = None,
    group: CoTrainingGroup | None = None,
    monitored: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Steps[RunResult]:
    """Trains, tests and tracks one prepared run; yields before every training step (``cotraining.run_alone`` runs it).

    Args:
        prepared: the run.
        connection: the tracking store and experiment.
        callbacks: called at each event, before the event is logged: if one raises, it is not logged.
        stop: checked before every training step.
        resume: the id of an interrupted run to resume.
        study: the parent run of a sweep, whose queue has assigned the run to this process.
        group: the runs that train on the same encoder pass; by default this run alone.
        monitored: whether MLflow's system metrics are logged.
        labels: more tags (``config.labels``).

    Raises:
        InversionError: the run failed or was interrupted; the reason is recorded in its MLflow run.
    """
    plan = prepared.plan
    if resume:
        require_same_digest(connection, resume, prepared.digest)
    tags = tags_of(prepared) | (study.child_tags() if study else {}) | dict(labels or {})
    if group and group.size > 1:
        tags[SIDE_BY_SIDE] = str(group.size)
    run = begin_run(connection, plan.name, resume, tags, claimed=study is not None)
    folder = work_folder(plan.data_dir, run.run_id)
    listeners = CallbackList([*callbacks, run])
    with (_removing_pruned(plan.data_dir, run), record_outcome(run), convert_out_of_memory(),
          system_metrics(connection, run.run_id, monitored)):
        listeners.on_begin(run.run_id)
        run.describe(plan.name, plan.config.model_dump(), tags, document_of(prepared))
        describe_run(run, prepared, study)
        results.log_code(run, plan.config.parts)
        counts = {split: len(photos) for split, photos in plan.photos.splits.items()}
        results.log_data_set(run, plan.photos, prepared.photos.digest, counts, "training")
        trainer = make_trainer(prepared, folder, [listeners], stop, group)
        run.log_once(size_metrics(trainer))
        if resume and (checkpoint := checkpoint_to_resume(run, folder, trainer.load_resumable)):
            trainer.resume(checkpoint)
        yield from trainer.steps()
        further = further_scores(plan.config, trainer.engine, len(prepared.photos.names("test")))
        metrics, pictures = finish(run, prepared, trainer, further)
        describe_run(run, prepared, study, metrics)
        listeners.on_commit()
    remove_checkpoints(plan.data_dir, run.run_id)
    return RunResult(run.run_id, run.uri, metrics, pictures, further.absent)


def finish(run: TrackedRun, prepared: Prepared, trainer: Trainer, further: FurtherScores
           ) -> tuple[dict[str, float], list[str]]:
    """Scores the best epoch's model on the test images and logs the results; returns metrics and picture names.

    Raises:
        NonFiniteError: a test image has a score that is not finite; everything but the final metrics is logged.
        InterruptedRunError: a stop was requested.
        OutOfMemoryError: not even one image fits into the device's memory.
    """
    names, crops = prepared.photos.names("test"), crops_of_test_set(prepared)
    memory = PeakMemory(trainer.engine.device)
    scores, pictures = trainer.evaluator.score_with_pictures(
        crops, names, MOST_PICTURES, trainer.stop_if_requested, further)
    further.leave_out(scores.own, names)
    metrics = final_metrics(scores) | {"eval_peak_memory_mb": memory.read_mb()} | progress_metrics(trainer)
    floors = floors_of_test_set(prepared, trainer, crops)
    metrics |= floor_metrics(floors)
    results.log_scores(run, names, scores, floors)
    if all(cut.bits(prepared.plan.config.image_size) for cut in prepared.plan.cuts):
        results.log_jpeg(run, jpeg_scores(crops, names, prepared.plan.config.protocol))
    files = results.log_reconstructions(run, pictures[:TEST_PICTURES])
    run.log_pictures(BEST_SECTION, trainer.state.best_epoch, pictures[:BEST_PICTURES])
    results.log_all_pictures(run, pictures)
    model_id = results.log_model(run, prepared.plan, trainer.model.to("cpu"))
    scores.require_numbers(names)
    run.log_once(metrics, model_id)
    return metrics, files


def document_of(prepared: Prepared) -> dict[str, Any]:
    """The whole resolved configuration: what ``config.json`` and the tag ``inversion.config`` hold."""
    plan, photos = prepared.plan, prepared.photos
    splits = {split: len(photos.names(split)) for split in plan.photos.splits}
    return {
        "digest": prepared.digest,
        "identity": plan.identity(photos.digest),
        "parameters": plan.config.model_dump(),
        "data": {"name": plan.photos.name, "digest": photos.digest, "images": splits},
        "weights": {name: str(source) for name, source in plan.weights.items()},
        "fallbacks": [dataclasses.asdict(fallback) for fallback in plan.fallbacks],
        **described_metrics(plan.config.metrics),
    }


def described_metrics(metrics: str) -> dict[str, Any]:
    """What a document says of metrics of a user's own, which reports need and is in their code; empty for ``none``."""
    made = map(outside_metrics.get, metric_names(metrics))
    described = {metric.logged_name: {"better": metric.better} for metric in made}
    return {"metrics": described} if described else {}


def tags_of(prepared: Prepared) -> dict[str, str]:
    """The tags by which runs are found and filtered."""
    config = prepared.plan.config
    device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else "CPU"
    return {"inversion.kind": "run", "inversion.digest": prepared.digest, "inversion.device": device,
            "inversion.data": prepared.plan.photos.name, "inversion.protocol": config.protocol}


def work_folder(data_dir: Path, run_id: str) -> Path:
    """The folder of a run's checkpoints on this machine, until it is finished."""
    return data_dir / "runs" / run_id


def remove_checkpoints(data_dir: Path, run_id: str) -> None:
    """Removes the local checkpoints of a run that is done; the tracking store has them."""
    shutil.rmtree(work_folder(data_dir, run_id), ignore_errors=True)


@contextlib.contextmanager
def _removing_pruned(data_dir: Path, run: TrackedRun) -> Iterator[None]:
    """Removes the local checkpoints of a run that is pruned, and will not be resumed."""
    try:
        yield
    except PrunedRunError:
        remove_checkpoints(data_dir, run.run_id)
        raise


def checkpoint_to_resume(run: TrackedRun, folder: Path, require: Callable[[Path], object] = lambda path: None
                         ) -> Path | None:
    """The checkpoint with the most steps: the one on this machine, or the uploaded one, which another may have written.

    Args:
        run: the run to resume.
        folder: the run's folder on this machine.
        require: raises a CheckpointError for a checkpoint that cannot be used.

    Returns:
        Its path; None if the run has no checkpoint yet, and starts from the beginning with the same numbers.

    Raises:
        CheckpointError: there are checkpoints, and none can be used.
    """
    candidates = [folder / LAST]
    try:
        candidates.append(run.download(f"checkpoints/{LAST}", folder / "uploaded"))
    except MissingArtifactError as error:
        _logger.info("%s", error)
    existing = [path for path in candidates if os.path.isfile(path)]
    if not existing:
        return None
    try:
        return furthest_checkpoint(existing, require)
    except CheckpointError as error:
        raise CheckpointError(f"run {run.run_id} cannot be resumed: {error}. Train its configuration again, "
                              "without --resume (a run of a sweep: delete it in MLflow, then --retry-failed); its "
                              f"artifact checkpoints/{BEST} has the weights of the best epoch.") from error


@contextlib.contextmanager
def convert_out_of_memory() -> Iterator[None]:
    """Converts the device's out-of-memory errors of code that is not retried with fewer images.

    Raises:
        OutOfMemoryError: the device's memory is too small.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {first}. Try a smaller image_size, another decoder, "
                               "or fewer runs per GPU.") from error
