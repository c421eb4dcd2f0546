"""Evaluating a finished run again: on its own test images, with identical scores, or on others."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from inversion.config.parts import parts_in
from inversion.config.run_config import RunConfig
from inversion.data.cache import load_cached
from inversion.data.datasets import cache_folder, data_folder, find_photo_set
from inversion.data.div2k import in_protocol
from inversion.data.duplicates import load_prints, with_training
from inversion.data.scored import ScoredPhotos, load_scored, set_digest
from inversion.data.splits import SPLITS, PhotoSet
from inversion.errors import DamagedArtifactError, DataError, InterruptedRunError, RequestError
from inversion.images import from_stored
from inversion.losses.lpips_weights import TrunkSource
from inversion.losses.outside import NONE, logged_name, metric_names, outside_metrics, pinned_metrics
from inversion.losses.reconstruction import ReconstructionLoss
from inversion.models.part_files import accept, keep
from inversion.progress import Progress, no_progress
from inversion.runs.further import further_scores
from inversion.runs.load import Reconstructor, TrainedRun
from inversion.runs.train import TEST_PICTURES, convert_out_of_memory, described_metrics
from inversion.tracking import results
from inversion.tracking.artifacts import RESTORE
from inversion.tracking.connection import Connection
from inversion.tracking.ownership import create_run
from inversion.tracking.results import fetch_code, fetch_image_scores
from inversion.tracking.search import EVALUATES, KIND
from inversion.tracking.tracked_run import TrackedRun as LoggedRun
from inversion.tracking.tracked_run import record_outcome
from inversion.training.callbacks import Picture
from inversion.training.evaluate import Scores, evaluate, final_metrics, finite
from inversion.training.floors import floor_metrics, floor_scores, largest_map
from inversion.training.further_scores import FurtherScores
from inversion.training.measure import PeakMemory
from inversion.training.stop import StopRequest

ALL = "all"
"""In place of a split: every image of another data set."""


@dataclass(frozen=True)
class Target:
    """The images to score, and whether they are of the data set that the run was trained on."""

    scored: ScoredPhotos
    own: bool

    @property
    def name(self) -> str:
        """The set's name, with the split if it is not the test split."""
        split = self.scored.split
        return self.scored.photos.name + ("" if split == "test" else f" ({split})")


@dataclass(frozen=True)
class Evaluation:
    """An evaluation and its run id; ``logged`` has the run's own scores of the images if these are its test images."""

    run_id: str
    target: Target
    scores: Scores
    logged: list[dict[str, Any]]
    absent: list[str]
    """Scores that could not be computed, a phrase each."""

    def before(self, name: str) -> list[float]:
        """The logged values of a metric, per image; empty unless all are known."""
        values: list[float | None] = [row.get(name) for row in self.logged]
        return [value for value in values if value is not None] if None not in values else []

    def differences(self, name: str) -> list[float]:
        """This evaluation minus the logged values of a metric, per image; empty unless both are known.

        For PSNR, 0 if both are infinite (exact reconstructions), and infinite if only one of them is.
        """
        now, before = self.scores.of(name), self.before(name)
        if not now or len(before) != len(now):
            return []
        return [0.0 if one == other else one - other for one, other in zip(now, before, strict=True)]


def find_target(run: TrainedRun, data: str | None, split: str, limit: int | None, data_dir: str | None,
                progress: Progress = no_progress) -> Target:
    """Finds the images to score a run on.

    Args:
        run: the run.
        data: another data set; by default the run's own, at the location that the run has logged.
        split: the split to score; ``all`` for every image of ``data``.
        limit: the number of images, 0 for all; by default the run's limit on its own data set, and all of another one.
        data_dir: the folder of downloads and caches.
        progress: reports progress.

    Raises:
        RequestError: the run's own images are missing or have changed, or those of ``data`` cannot be used.
    """
    folder = _data_dir(run, data_dir)
    try:
        photos = in_protocol(find_photo_set(data or run.config.data, folder, progress), run.config.protocol)
    except RequestError as error:
        if data:
            raise
        raise RequestError(f"the photographs of run {run.name} are no longer at {run.config.data!r} ({error}) "
                           "Give their folder with --data FOLDER.") from error
    if split == ALL:
        photos, split = _as_test_split(photos), "test"
    limits = {name: getattr(run.config, f"{name}_limit") for name in ("train", "val", "test")}
    wanted, digest = run.document["data"]["digest"], set_digest(photos, limits, folder, progress)
    own = digest == wanted
    if not own and not data:
        raise DataError(f"the photographs at {photos.root} are not those that run {run.name} was trained on (digest "
                        f"{wanted[:12]}, now {digest[:12] or 'unreadable'}). Score these with --data "
                        f"{run.config.data}, or give the folder of the original ones.")
    if limit is None:
        limit = limits[split] if own else 0
    scored = load_scored(photos, split, limit, run.config.image_size, folder, progress)
    if own:
        return Target(dataclasses.replace(scored, digest=wanted), own)
    warnings = [*photos.warnings, *_leaks(run, scored, limits, folder, progress)]
    return Target(dataclasses.replace(scored, photos=dataclasses.replace(photos, warnings=warnings)), own)


def _as_test_split(photos: PhotoSet) -> PhotoSet:
    """The same photographs, all to be scored."""
    every = [photo for name in SPLITS for photo in photos.splits[name]]
    return dataclasses.replace(photos, splits={**{name: [] for name in SPLITS}, "test": every})


def evaluate_run(connection: Connection, experiment_id: str, run: TrainedRun, load: Callable[[], Reconstructor],
                 target: Target, lpips: TrunkSource | None, stop: StopRequest, vgg_weights: str | None = None,
                 metrics: str | None = None) -> Evaluation:
    """Scores a run on images, and logs the evaluation as a child run of it.

    Args:
        connection: the tracking store.
        experiment_id: the experiment to log to.
        run: the run to evaluate.
        load: returns its model; if it fails, the evaluation does.
        target: the images.
        lpips: the weights of LPIPS; None if it is off.
        stop: checked before each batch.
        vgg_weights: VGG16 of LPIPS-VGG and DISTS, as the parameter of that name; by default the run's own, or ``auto``
            for a run of an earlier version, which had none.
        metrics: metrics of the user's own (``find_metrics``); by default the run's.

    Raises:
        InversionError: it failed or was interrupted; the reason is recorded in its MLflow run.
    """
    logged = _logged_scores(run, target)
    config = evaluation_config(run, target, lpips, vgg_weights, metrics)
    name = f"evaluate {run.name} on {target.name}"
    tags = {"inversion.data": target.scored.photos.name, "inversion.protocol": config.protocol}
    logger = _begin(connection, experiment_id, run.run_id, name, tags)
    with record_outcome(logger), convert_out_of_memory():
        params = config.model_dump() | {"evaluates": run.run_id, "split": target.scored.split}
        logger.describe(name, params, tags, _document(run, config, target))
        results.log_code(logger, parts_in({"metrics": config.metrics}))
        counts = {target.scored.split: len(target.scored.names)}
        reconstructor = load()
        results.log_data_set(logger, target.scored.photos, target.scored.digest, counts, "evaluation")
        loss = ReconstructionLoss(config.mse_weight, config.lpips_weight, lpips.load() if lpips else None)
        further = further_scores(config, reconstructor.engine, len(target.scored.names))
        scores = _score(logger, reconstructor, target.scored, loss, _interrupter(stop), further)
    return Evaluation(logger.run_id, target, scores, logged, further.absent)


def find_metrics(run: TrainedRun, given: str, trust_code: bool) -> str:
    """The metrics of the user's own to score a run with, as a value of ``metrics``: the run's and further ones.

    Args:
        run: the run to score.
        given: the further ones by their full names; one takes the place of the run's metric of the same name.
        trust_code: whether code that comes with the run may be executed, if it is not on this machine.

    Raises:
        UntrustedCodeError: it may not.
        RequestError: the code of a metric fails, or does not give a score.
    """
    replaced = set(map(logged_name, metric_names(given)))
    own = [name for name in metric_names(run.config.metrics) if logged_name(name) not in replaced]
    accept(own, partial(fetch_code, run.run_id), trust_code, f"run {run.run_id} ({run.name})")
    metrics = pinned_metrics(",".join([*own, *metric_names(given)]) or NONE)
    for name in metric_names(metrics):
        outside_metrics.get(name).try_on(run.config.image_size)
    keep(metric_names(given))
    return metrics


def _begin(connection: Connection, experiment_id: str, evaluated: str, name: str, tags: Mapping[str, str]
           ) -> LoggedRun:
    """A new run in an experiment, which MLflow's UI shows below the run that it evaluates."""
    linked = {KIND: "evaluation", EVALUATES: evaluated, MLFLOW_PARENT_RUN_ID: evaluated, **tags}
    in_experiment = dataclasses.replace(connection, experiment_id=experiment_id)
    return LoggedRun(in_experiment, create_run(in_experiment, name, linked, "inversion evaluate"))


def _leaks(run: TrainedRun, scored: ScoredPhotos, limits: Mapping[str, int], folder: Path, progress: Progress
           ) -> list[str]:
    """Warnings if the run was trained on some of the images to score, or if this cannot be checked."""
    try:
        photos = in_protocol(find_photo_set(run.config.data, folder, progress), run.config.protocol)
        if set_digest(photos, limits, folder, progress) != run.document["data"]["digest"]:
            raise DataError("the data set has changed")
        trained = load_cached(photos, run.config.image_size, cache_folder(folder), progress, limits)
    except RequestError:
        return [f"the photographs that run {run.name} was trained on are no longer at {run.config.data}: it is unknown "
                "whether some of them are scored here (data leakage)"]
    return with_training(load_prints(scored.cache, progress)[scored.split], load_prints(trained, progress)["train"])


def _score(logger: LoggedRun, reconstructor: Reconstructor, scored: ScoredPhotos, loss: ReconstructionLoss,
           before_batch: Callable[[], None], further: FurtherScores) -> Scores:
    """Computes and logs scores and pictures; in the batch size of training, on which the last bits depend."""
    engine = reconstructor.engine
    memory = PeakMemory(engine.device)
    scores = evaluate(reconstructor.model, scored.crops, loss.to(engine.device), engine, before_batch,
                      further=further)
    further.leave_out(scores.own, scored.names)
    metrics = final_metrics(scores) | {"eval_peak_memory_mb": memory.read_mb()}
    floors = floor_scores(scored.crops, largest_map(reconstructor.model.frozen), engine)
    metrics |= floor_metrics(floors)
    logger.log_metrics(finite(metrics))  # first, so that the scores are kept if the store rejects an upload
    results.log_scores(logger, scored.names, scores, floors)
    first = scored.crops[:TEST_PICTURES]
    pictures = list(map(Picture.of, scored.names, from_stored(first), reconstructor.stored(first)))
    results.log_reconstructions(logger, pictures)
    scores.require_numbers(scored.names)
    return scores


def _logged_scores(run: TrainedRun, target: Target) -> list[dict[str, Any]]:
    """The scores that the run has logged for the same images; empty unless these are its test images."""
    if not target.own or target.scored.split != "test":
        return []
    with tempfile.TemporaryDirectory() as folder:
        rows = fetch_image_scores(run.run_id, Path(folder))
    names, logged = target.scored.names, [row["image"] for row in rows]
    expected = run.document["data"].get("images", {}).get("test", len(rows))
    if len(rows) != expected or any(one != other for one, other in zip(logged, names, strict=False)):
        raise DamagedArtifactError(f"metrics/{results.PER_IMAGE} of run {run.run_id} is damaged: it does not have "
                                   f"the {expected} images that the run was scored on. {RESTORE}")
    return rows[:len(names)] if len(rows) >= len(names) else []


def evaluation_config(run: TrainedRun, target: Target, lpips: TrunkSource | None, vgg_weights: str | None = None,
                      metrics: str | None = None) -> RunConfig:
    """The run's parameters, with the images, the weights and the metrics of this evaluation; arguments as of
    ``evaluate_run``."""
    wanted = vgg_weights or (run.config.vgg_weights if run.config.vgg_weights != "off" else "auto")
    photos = target.scored.photos
    limit = {f"{target.scored.split}_limit": len(target.scored.names)}
    return run.config.model_copy(update={"data": photos.data, "lpips_weights": str(lpips) if lpips else "off",
                                         "vgg_weights": wanted, "metrics": metrics or run.config.metrics, **limit})


def _document(run: TrainedRun, config: RunConfig, target: Target) -> dict[str, Any]:
    return {
        "evaluates": run.run_id,
        "parameters": config.model_dump(),
        "data": {"name": target.scored.photos.name, "digest": target.scored.digest, "own": target.own,
                 "images": {target.scored.split: len(target.scored.names)},
                 "warnings": [] if target.own else list(target.scored.photos.warnings)},
        "split": target.scored.split,
        **described_metrics(config.metrics),
    }


def _data_dir(run: TrainedRun, given: str | None) -> Path:
    """The folder of downloads and caches: the given one, the run's if it exists here, else this user's."""
    if given:
        return data_folder(given)
    before = Path(run.config.data_dir)
    return before if os.path.isdir(before) else data_folder("auto")


def _interrupter(stop: StopRequest) -> Callable[[], None]:
    """Raises an InterruptedRunError once a stop is requested."""

    def stop_if_requested() -> None:
        if stop.reason is not None:
            raise InterruptedRunError(f"stopped while scoring: {stop.reason}")

    return stop_if_requested
