"""One run from request to result: what ``inversion train``, ``mlflow run`` and every worker of a sweep do."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inversion.errors import MissingArtifactError, OutOfMemoryError, PrunedRunError
from inversion.runs.prepare import (
    Prepared,
    crops_of_test_set,
    make_trainer,
    progress_metrics,
    size_metrics,
)
from inversion.tracking import results
from inversion.tracking.connection import Connection
from inversion.tracking.study import SIDE_BY_SIDE, StudyRun
from inversion.tracking.tracked_run import TrackedRun, begin_run, record_outcome, require_same_digest
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import BEST, LAST, CheckpointError, furthest_checkpoint
from inversion.training.cotraining import CoTrainingGroup, Steps, run_alone
from inversion.training.evaluate import final_metrics
from inversion.training.measure import PeakMemory
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer

TEST_PICTURES = 8
MOST_PICTURES = 200
"""Test images whose reconstruction is kept beside its scores: a report picks the best and the worst out of them."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A finished run: where it is tracked, and its final metrics."""

    run_id: str
    artifact_uri: str
    metrics: dict[str, float]
    pictures: list[str]


def train(
    prepared: Prepared,
    connection: Connection,
    callbacks: Sequence[Callback] = (),
    stop: StopRequest | None = None,
    resume: str | None = None,
    study: StudyRun | None = None,
) -> RunResult:
    """Trains, tests and tracks one prepared run; see ``train_steps``."""
    return run_alone(train_steps(prepared, connection, callbacks, stop, resume, study))


def train_steps(
    prepared: Prepared,
    connection: Connection,
    callbacks: Sequence[Callback] = (),
    stop: StopRequest | None = None,
    resume: str | None = None,
    study: StudyRun | None = None,
    group: CoTrainingGroup | None = None,
) -> Steps[RunResult]:
    """Trains, tests and tracks one prepared run, and yields before every training step.

    ``resume`` is the id of an interrupted run to resume, ``study`` the parent run of a sweep, ``group`` the runs
    that it is trained together with. Callbacks hear of everything before the tracking store does, so that what they
    raise keeps it from being logged.

    Raises:
        InversionError: the run failed or was interrupted; its MLflow run says so.
    """
    plan = prepared.plan
    if resume:
        require_same_digest(connection, resume, prepared.digest)
    tags = tags_of(prepared) | (study.child_tags() if study else {})
    if group and group.size > 1:
        tags[SIDE_BY_SIDE] = str(group.size)
    run = begin_run(connection, plan.name, resume, tags, claimed=study is not None)
    folder = work_folder(plan.data_dir, run.run_id)
    with _forgetting_if_pruned(plan.data_dir, run), record_outcome(run), out_of_memory_by_name():
        for callback in callbacks:
            callback.on_begin(run.run_id)
        run.describe(plan.name, plan.config, tags, document_of(prepared))
        counts = {split: len(photos) for split, photos in plan.photos.splits.items()}
        results.log_data_set(run, plan.photos, prepared.photos.digest, counts, "training")
        trainer = make_trainer(prepared, folder, [*callbacks, run], stop, group)
        run.log_once(size_metrics(trainer))
        if resume and (checkpoint := checkpoint_to_resume(run, folder, trainer.load_resumable)):
            trainer.resume(checkpoint)
        yield from trainer.steps()
        metrics, pictures = finish(run, prepared, trainer)
        for callback in (*callbacks, run):
            callback.on_commit()
    forget_checkpoints(plan.data_dir, run.run_id)
    return RunResult(run.run_id, run.uri, metrics, pictures)


def finish(run: TrackedRun, prepared: Prepared, trainer: Trainer) -> tuple[dict[str, float], list[str]]:
    """Scores the best epoch's model on the test set and logs everything final; returns metrics and picture names.

    Raises:
        NonFiniteError: a test image has no scores; everything but the final metrics is logged.
    """
    names = prepared.photos.names("test")
    memory = PeakMemory(trainer.engine.device)
    scores, pictures = trainer.score_and_show(crops_of_test_set(prepared), names, MOST_PICTURES)
    metrics = final_metrics(scores) | {"eval_peak_memory_mb": memory.read_mb()} | progress_metrics(trainer)
    results.log_scores(run, names, scores)
    files = results.log_reconstructions(run, pictures[:TEST_PICTURES])
    results.log_all_pictures(run, pictures)
    results.log_model(run, prepared.plan, trainer.model.to("cpu"))
    scores.require_numbers(names)
    run.log_once(metrics)
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
    }


def tags_of(prepared: Prepared) -> dict[str, str]:
    """The tags that runs are found and filtered by."""
    config = prepared.plan.config
    device = torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else "CPU"
    return {"inversion.kind": "run", "inversion.digest": prepared.digest, "inversion.device": device,
            "inversion.data": prepared.plan.photos.name, "inversion.protocol": config.protocol}


def work_folder(data_dir: Path, run_id: str) -> Path:
    """Where a run's checkpoints lie on this machine until it is finished."""
    return data_dir / "runs" / run_id


def forget_checkpoints(data_dir: Path, run_id: str) -> None:
    """Removes what a run left on this machine that needs it no more: the tracking store has it."""
    shutil.rmtree(work_folder(data_dir, run_id), ignore_errors=True)


@contextlib.contextmanager
def _forgetting_if_pruned(data_dir: Path, run: TrackedRun) -> Iterator[None]:
    """A run that was given up is not gone on with; its checkpoints are with the tracking store."""
    try:
        yield
    except PrunedRunError:
        forget_checkpoints(data_dir, run.run_id)
        raise


def checkpoint_to_resume(run: TrackedRun, folder: Path, require: Callable[[Path], object] = lambda path: None
                         ) -> Path | None:
    """The checkpoint that is furthest on: this machine's, or the uploaded one of whoever worked on the run last.

    One that ``require`` raises a CheckpointError for does not count.

    None if the run was killed before its first: it begins anew then, which gives the same numbers.

    Raises:
        CheckpointError: there are some, and none can be used.
    """
    candidates = [folder / LAST]
    try:
        candidates.append(run.download(f"checkpoints/{LAST}", folder / "uploaded"))
    except MissingArtifactError as error:
        _logger.info("%s", error)
    existing = [path for path in candidates if path.is_file()]
    if not existing:
        return None
    try:
        return furthest_checkpoint(existing, require)
    except CheckpointError as error:
        raise CheckpointError(f"run {run.run_id} cannot be gone on with: {error}. Train its configuration anew, "
                              "without --resume (a run of a sweep: delete it in MLflow, then --retry-failed); "
                              f"checkpoints/{BEST} among its artifacts has what it had learned.") from error


@contextlib.contextmanager
def out_of_memory_by_name() -> Iterator[None]:
    """Turns the device's out-of-memory error into ours, outside the steps that are tried again with fewer images."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {first}. Try a smaller image_size, another decoder, "
                               "or fewer runs per GPU.") from error
