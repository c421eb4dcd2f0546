"""One run from request to result: what ``inversion train``, ``mlflow run`` and every worker of a sweep do."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inversion.config import RunConfig
from inversion.data.batches import TrainBatches, center_crops
from inversion.data.cache import PhotoCache, load_cached
from inversion.data.catalog import cache_folder
from inversion.data.progress import Progress, quiet
from inversion.encoders.build import build_encoder
from inversion.errors import OutOfMemoryError
from inversion.images import IMAGENET, from_stored
from inversion.losses import ReconstructionLoss
from inversion.model import InversionModel, build_model
from inversion.resolve import Plan, resolve
from inversion.tracking import results
from inversion.tracking.connection import Connection
from inversion.tracking.run import TrackedRun, begin_run, ending_truthfully
from inversion.training.checkpoint import LAST
from inversion.training.device import Engine, make_engine
from inversion.training.evaluate import evaluate, test_metrics
from inversion.training.interrupt import StopRequest
from inversion.training.listener import Listener, Picture
from inversion.training.loop import CALIBRATION_IMAGES, Trainer, TrainingData
from inversion.training.measure import PeakMemory, gflops_per_image

TEST_PICTURES = 8


@dataclass(frozen=True)
class RunResult:
    """A finished run: where it is tracked, and its final metrics."""

    run_id: str
    artifact_uri: str
    metrics: dict[str, float]
    pictures: list[str]


@dataclass(frozen=True)
class Prepared:
    """A plan with its photographs in memory, and the digest of what it will compute."""

    plan: Plan
    photos: PhotoCache
    digest: str


def prepare(config: RunConfig, progress: Progress = quiet) -> Prepared:
    """Resolves a request and reads its photographs; nothing is tracked yet.

    Raises:
        RequestError: anything that cannot be run, unusable photographs included.
    """
    plan = resolve(config, progress)
    limits = {"train": plan.config.train_limit, "val": plan.config.val_limit, "test": plan.config.test_limit}
    photos = load_cached(plan.photos, plan.config.image_size, cache_folder(plan.data_dir), progress, limits)
    return Prepared(plan, photos, plan.digest(photos.digest))


def train(
    prepared: Prepared,
    connection: Connection,
    listeners: Sequence[Listener] = (),
    stop: StopRequest | None = None,
    resume: str | None = None,
) -> RunResult:
    """Trains, tests and tracks one prepared run; ``resume`` is the id of an interrupted run to go on with.

    Raises:
        InversionError: the run failed or was interrupted; its MLflow run says so.
    """
    plan = prepared.plan
    run = begin_run(connection, plan.name, resume)
    with ending_truthfully(run), out_of_memory_by_name():
        run.describe(plan.name, plan.config, tags_of(prepared), document_of(prepared))
        results.log_data_set(run, plan, prepared.photos.digest)
        engine = make_engine(plan.config)
        model, loss = build(plan)
        folder = work_folder(plan.data_dir, run.run_id)
        trainer = Trainer(model, loss, training_data(prepared), plan.config, engine, folder, prepared.digest,
                          [run, *listeners], stop)
        run.log_metrics(size_metrics(model, plan, engine))
        if resume:
            trainer.resume(checkpoint_to_resume(run, folder))
        trainer.fit()
        metrics, pictures = finish(run, prepared, trainer)
    shutil.rmtree(folder, ignore_errors=True)
    return RunResult(run.run_id, run.uri, metrics, pictures)


def build(plan: Plan) -> tuple[InversionModel, ReconstructionLoss]:
    """The network and the loss of a plan, on the CPU; downloads weights that are not cached."""
    config = plan.config
    normalisation = IMAGENET if config.protocol == "published" else None
    encoders = [build_encoder(cut, plan.weights[cut.encoder], config.image_size, normalisation) for cut in plan.cuts]
    fusion = None if config.fusion == "none" else config.fusion
    model = build_model(encoders, config.decoder, plan.options, fusion, config.image_size, config.seed)
    lpips = plan.lpips.load() if plan.lpips else None
    return model, ReconstructionLoss(config.mse_weight, config.lpips_weight, lpips)


def training_data(prepared: Prepared) -> TrainingData:
    """Batches and fixed crops of the run's photographs."""
    config, photos = prepared.plan.config, prepared.photos
    pixels = photos.pixels("train")
    return TrainingData(
        TrainBatches(pixels, config.image_size, config.batch_size, prepared.plan.photos.crops_per_image, config.seed),
        center_crops(pixels[:CALIBRATION_IMAGES], config.image_size),
        center_crops(photos.pixels("val"), config.image_size),
        photos.names("val"),
    )


def size_metrics(model: InversionModel, plan: Plan, engine: Engine) -> dict[str, float]:
    """What the configuration costs before anything is learned."""
    shapes = [encoder.feature_shape for encoder in model.frozen]
    size = plan.config.image_size
    model.eval()
    return {
        "decoder_parameters": sum(parameter.numel() for parameter in model.trainable()),
        "feature_channels": sum(shape.channels for shape in shapes),
        "feature_locations": max(shape.locations for shape in shapes),
        "encoder_passes": len(shapes),
        "gflops_per_image": gflops_per_image(model, torch.zeros(1, 3, size, size, device=engine.device)),
    }


def finish(run: TrackedRun, prepared: Prepared, trainer: Trainer) -> tuple[dict[str, float], list[str]]:
    """Scores the best epoch's model on the test set and logs everything final; returns metrics and picture names."""
    crops = center_crops(prepared.photos.pixels("test"), prepared.plan.config.image_size)
    names = prepared.photos.names("test")
    memory = PeakMemory(trainer.engine.device)
    scores = evaluate(trainer.model, crops, trainer.loss, trainer.engine, between=trainer.stop_if_asked)
    metrics = test_metrics(scores) | {"eval_peak_memory_mb": memory.read_mb()} | progress_metrics(trainer)
    results.log_scores(run, names, scores)
    pictures = reconstruct(trainer, crops[:TEST_PICTURES], names)
    files = results.log_reconstructions(run, pictures)
    results.log_model(run, prepared.plan, trainer.model.to("cpu"))
    run.log_metrics(metrics)
    return metrics, files


def progress_metrics(trainer: Trainer) -> dict[str, float]:
    """What training came to."""
    progress = trainer.progress
    return {
        "best_epoch": progress.best_epoch,
        "best/val_loss": progress.best_loss,
        "best/val_psnr": progress.best_psnr,
        "epochs_run": progress.epoch,
        "train_seconds": progress.train_seconds,
        "train_peak_memory_mb": progress.peak_memory_mb,
    }


@torch.no_grad()
def reconstruct(trainer: Trainer, stored: torch.Tensor, names: Sequence[str]) -> list[Picture]:
    """Stored crops ``uint8 (N, S, S, 3)`` beside their reconstructions."""
    trainer.model.eval()
    images = from_stored(stored.to(trainer.engine.device))
    with trainer.engine.autocast():
        reconstructions = trainer.model(images).float()
    return [Picture(*row) for row in zip(names, images, reconstructions, strict=False)]


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
        "fallbacks": [fallback.short for fallback in plan.fallbacks],
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


def checkpoint_to_resume(run: TrackedRun, folder: Path) -> Path:
    """The last checkpoint: this machine's if it has one (never older than the uploaded one), else the uploaded one."""
    local = folder / LAST
    return local if local.is_file() else run.download(f"checkpoints/{LAST}", folder)


@contextlib.contextmanager
def out_of_memory_by_name() -> Iterator[None]:
    """Turns the device's out-of-memory error into ours, which the run's failure kind ``oom`` comes from."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first = str(error).splitlines()[0]
        raise OutOfMemoryError(f"out of memory: {first}. Try a smaller batch_size or image_size.") from error
