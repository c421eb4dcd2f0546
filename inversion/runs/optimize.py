"""A tracked inversion by optimisation: the work of ``inversion optimize``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inversion import metrics
from inversion.config.optimize_config import OptimizeConfig
from inversion.config.resolve import NOT_SCIENTIFIC, digest_of, resolve, run_name
from inversion.data.batches import center_crops
from inversion.data.cache import load_cached
from inversion.data.datasets import cache_folder
from inversion.errors import InterruptedRunError
from inversion.images import from_stored
from inversion.losses.lpips import LPIPS
from inversion.losses.reconstruction import make_targets
from inversion.models.encoders.build import Encoder, encode, encode_differentiably
from inversion.progress import Progress, no_progress
from inversion.runs.further import further_scores
from inversion.runs.prepare import Prepared, build_encoders, check_weights, crops_of_test_set, feature_metrics
from inversion.runs.train import MOST_PICTURES, TEST_PICTURES, RunResult, convert_out_of_memory, tags_of
from inversion.tracking import results
from inversion.tracking.connection import Connection
from inversion.tracking.ownership import create_run
from inversion.tracking.search import KIND
from inversion.tracking.study import StudyRun
from inversion.tracking.tracked_run import TrackedRun, record_outcome
from inversion.training.callbacks import Picture
from inversion.training.device import Engine, make_engine
from inversion.training.evaluate import Scores, final_metrics, finite
from inversion.training.further_scores import FurtherScores
from inversion.training.measure import PeakMemory, synchronised_time
from inversion.training.memory import BatchSize
from inversion.training.pixel_optimization import Inverted, Point, Settings, invert, mean_curve, starting_noise
from inversion.training.stop import StopRequest
from inversion.training.trainer import CALIBRATION_IMAGES

LOSS, FEATURE_ERROR = "optimize/loss", "optimize/feature_error"
RECIPE = 1
"""Version of the method, part of every digest. Increase it if the same parameters give other numbers."""


@dataclass(frozen=True)
class PreparedOptimization:
    """A resolved request with its images in memory; the decoder in ``prepared`` has no effect."""

    config: OptimizeConfig
    prepared: Prepared

    @property
    def name(self) -> str:
        """``vgg16:block1+optimize``, with seed and fallbacks as in the name of a training run."""
        plan = self.prepared.plan
        return run_name(plan.config.model_copy(update={"decoder": "optimize", "fusion": "none"}), plan.fallbacks)

    @property
    def settings(self) -> Settings:
        return Settings(**self.config.settings.model_dump())

    def document(self) -> dict[str, Any]:
        """The whole resolved configuration: what ``config.json`` and the tag ``inversion.config`` hold."""
        plan, photos = self.prepared.plan, self.prepared.photos
        return {
            "method": "optimize",
            "digest": self.prepared.digest,
            "identity": self.identity(),
            "parameters": self.config.parameters(),
            "data": {"name": plan.photos.name, "digest": photos.digest, "images": {"test": len(photos.names("test"))}},
            "weights": {name: str(source) for name, source in plan.weights.items()},
            "fallbacks": [dataclasses.asdict(fallback) for fallback in plan.fallbacks],
        }

    def identity(self) -> dict[str, Any]:
        """Everything that the results depend on, as plain data; of the data set, only the test images."""
        scientific = {name: value for name, value in self.config.parameters().items() if name not in NOT_SCIENTIFIC}
        return self.prepared.plan.identity(self.prepared.photos.digest) | {"recipe": RECIPE, "parameters": scientific}


def prepare_optimization(config: OptimizeConfig, progress: Progress = no_progress) -> PreparedOptimization:
    """Resolves a request and reads its test images; nothing is tracked yet.

    If modifiers have to be calibrated, the first training images are read, too.

    Raises:
        RequestError: the request cannot be run, or its images cannot be used.
    """
    plan = resolve(config.shared, progress)
    check_weights(plan)
    calibrated = any(modifier.is_calibrated for cut in plan.cuts for modifier in cut.modifiers)
    used = {"test", "train"} if calibrated else {"test"}
    alone = dataclasses.replace(plan.photos, splits={split: photos if split in used else []
                                                     for split, photos in plan.photos.splits.items()})
    plan = dataclasses.replace(plan, photos=alone)
    photos = load_cached(alone, plan.config.image_size, cache_folder(plan.data_dir), progress,
                         {"test": plan.config.test_limit, "train": CALIBRATION_IMAGES})
    resolved = config.model_copy(update={"shared": plan.config})
    unnamed = PreparedOptimization(resolved, Prepared(plan, photos, ""))
    return PreparedOptimization(resolved, Prepared(plan, photos, digest_of(unnamed.identity())))


def optimize(request: PreparedOptimization, connection: Connection, stop: StopRequest, progress: Progress = no_progress,
             study: StudyRun | None = None) -> RunResult:
    """Inverts every test image, and logs the images found and their scores as a run.

    Args:
        request: the prepared request.
        connection: the tracking store and experiment.
        stop: checked after every step.
        progress: reports progress.
        study: the parent run; by default the run has none.

    Raises:
        InversionError: it failed or was interrupted; the reason is recorded in its MLflow run.
    """
    prepared = request.prepared
    tags = tags_of(prepared) | {KIND: "optimize"} | (study.child_tags() if study else {})
    run = TrackedRun(connection, create_run(connection, request.name, tags, "inversion optimize"))
    with record_outcome(run), convert_out_of_memory():
        run.describe(request.name, request.config.parameters(), tags, request.document())
        engine = make_engine(prepared.plan.config)
        names = prepared.photos.names("test")
        results.log_data_set(run, prepared.plan.photos, prepared.photos.digest, {"test": len(names)}, "evaluation")
        encoders = build_encoders(prepared.plan)
        run.log_metrics(feature_metrics(encoders, prepared.plan.config.image_size))
        for encoder in encoders:
            encoder.to(engine.device)
        calibrate(encoders, prepared, engine)
        memory = PeakMemory(engine.device)
        crops = crops_of_test_set(prepared)
        found, curve, seconds = invert_all(request, encoders, crops, engine, _reporter(progress, stop))
        run.log_history({point.step: {LOSS: point.loss, FEATURE_ERROR: point.feature_error} for point in curve})
        further = further_scores(prepared.plan.config, engine, len(names))
        scores = _score(found, crops, prepared.plan.lpips.load() if prepared.plan.lpips else None, engine,
                        prepared.plan.config.batch_size, encoders, further)
        scores.forward_seconds, scores.seconds = seconds, scores.seconds + seconds
        values = final_metrics(scores) | {"eval_peak_memory_mb": memory.read_mb()}
        run.log_metrics(finite(values))  # first, so that the scores are kept if the store rejects an upload
        files = _log_results(run, names, crops, found, scores)
        scores.require_numbers(names)
    return RunResult(run.run_id, run.uri, values, files, further.absent)


def calibrate(encoders: list[Encoder], prepared: Prepared, engine: Engine) -> None:
    """Measures the modifiers of encoders on the centre crops of the first training images, as before training."""
    if any(encoder.modifiers.are_calibrated for encoder in encoders):
        config = prepared.plan.config
        crops = center_crops(prepared.photos.pixels("train")[:CALIBRATION_IMAGES], config.image_size)
        images = [from_stored(engine.send(part)) for part in crops.split(config.batch_size)]
        with engine.autocast():
            for encoder in encoders:
                encoder.calibrate(images)


def invert_all(request: PreparedOptimization, encoders: list[Encoder], crops: Tensor, engine: Engine,
               report: Callable[[int, int], None]) -> tuple[Tensor, list[Point], float]:
    """Inverts stored crops.

    Args:
        request: the prepared request.
        encoders: its encoders, on the engine's device.
        crops: the crops, ``uint8 (N, S, S, 3)``.
        engine: device and precision.
        report: called after each step with the number of steps done, summed over the images, and their total; what it
            raises ends the search.

    Returns:
        The images found, ``(N, 3, S, S)`` on the CPU; the mean curve; the seconds.

    Raises:
        OutOfMemoryError: not even one image fits.
    """
    config, settings = request.prepared.plan.config, request.settings
    batch = BatchSize(config.batch_size, f"image_size {config.image_size}")

    def compute(indices: Tensor) -> Inverted:
        first, count = int(indices[0]), len(indices)
        images = from_stored(crops[indices].to(engine.device))
        start = starting_noise(indices.tolist(), config.image_size, config.seed).to(engine.device)
        with engine.autocast():
            observed = [features.float() for features in encode(encoders, images)]
            inverted = invert(partial(encode_differentiably, encoders), images, start, settings, lambda step: report(
                first * settings.steps + count * step, len(crops) * settings.steps), observed)
        return Inverted(inverted.images.cpu(), inverted.curve)

    begin = synchronised_time(engine.device)
    parts = list(batch.map(compute, torch.arange(len(crops))))
    seconds = synchronised_time(engine.device) - begin
    curve = list(mean_curve([(len(part.images), part.curve) for part in parts]))
    return torch.cat([part.images for part in parts]), curve, seconds


@torch.no_grad()
def _score(found: Tensor, crops: Tensor, lpips: LPIPS | None, engine: Engine, batch_size: int,
           encoders: Sequence[Encoder], further: FurtherScores) -> Scores:
    """Scores of the images found, ``(N, 3, S, S)``, computed as for a decoder.

    In the protocol ``published``, a decoder outputs normalised, clipped images; the images found are converted to that.
    """
    scores = Scores()
    lpips = lpips.to(engine.device) if lpips else None

    def score(indices: Tensor) -> Scores:
        start = synchronised_time(engine.device)
        originals = from_stored(crops[indices].to(engine.device))
        images = make_targets(found[indices].to(engine.device), engine.protocol).score
        targets = make_targets(originals, engine.protocol).score
        part = Scores(metrics.psnr(images, targets).tolist(), metrics.ssim(images, targets).tolist(),
                      metrics.mse(images, targets).tolist())
        if lpips is not None:
            with engine.autocast():
                part.lpips = lpips(images, targets).tolist()
        part.seconds = synchronised_time(engine.device) - start
        with engine.autocast():
            features = encode(encoders, originals)
        part.add_further(further.score(images, targets, features, partial(encode, encoders)))
        part.further_seconds = synchronised_time(engine.device) - start - part.seconds
        return part

    for part in BatchSize(batch_size, f"image_size {crops.shape[1]}").map(score, torch.arange(len(crops))):
        scores.add(part)
    return scores


def _log_results(run: TrackedRun, names: list[str], crops: Tensor, found: Tensor, scores: Scores) -> list[str]:
    results.log_scores(run, names, scores)
    originals = from_stored(crops[:MOST_PICTURES])
    pictures = list(map(Picture.of, names, originals, found))
    files = results.log_reconstructions(run, pictures[:TEST_PICTURES])
    results.log_all_pictures(run, pictures)
    return files


def _reporter(progress: Progress, stop: StopRequest) -> Callable[[int, int], None]:
    """Reports progress, and raises an InterruptedRunError once a stop is requested."""

    def report(done: int, total: int) -> None:
        if stop.reason is not None:
            raise InterruptedRunError(f"stopped while optimising: {stop.reason}")
        progress("optimising", done, total)

    return report
