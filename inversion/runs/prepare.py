"""A run without tracking: from a request to its images, its model and its trainer."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from inversion.config.resolve import Fallback, Plan, resolve
from inversion.config.run_config import RunConfig
from inversion.data.batches import TrainBatches, center_crops
from inversion.data.cache import PhotoCache, load_cached
from inversion.data.datasets import cache_folder
from inversion.data.duplicates import across_splits
from inversion.images import IMAGENET
from inversion.losses.lpips_weights import TrunkSource
from inversion.losses.outside import NONE, metric_names, outside_losses, outside_metrics
from inversion.losses.reconstruction import OwnTerm, ReconstructionLoss
from inversion.metrics import counted
from inversion.models.decoders import decoders
from inversion.models.encoders.build import Encoder, EncoderRequest, build_several
from inversion.models.encoders.catalog import EncoderCut, outside_encoders
from inversion.models.encoders.imagenet import imagenet_location
from inversion.models.encoders.pretrained_files import cached_file
from inversion.models.encoders.weights import WeightsSource
from inversion.models.fusion import fusions
from inversion.models.model import InversionModel, build_model, fused_shape
from inversion.models.part_files import keep
from inversion.models.trial import try_decoder, try_encoder, try_fusion
from inversion.progress import Progress, no_progress
from inversion.training.callbacks import Callback
from inversion.training.cotraining import CoTrainingGroup
from inversion.training.device import make_engine
from inversion.training.evaluate import Scores
from inversion.training.feature_folder import FeatureFolder
from inversion.training.floors import floor_scores, largest_map
from inversion.training.measure import gflops_per_image
from inversion.training.stop import StopRequest
from inversion.training.trainer import CALIBRATION_IMAGES, Trainer, TrainingData

SHARE_FOR_IMAGES = 0.25
"""The share of a GPU's free memory that training images may take; DIV2K's 640 take 0.2 GB at 224 pixels."""


@dataclass(frozen=True)
class Prepared:
    """A plan with its images in memory, and its digest."""

    plan: Plan
    photos: PhotoCache
    digest: str


def prepare(config: RunConfig, progress: Progress = no_progress, inherited: Sequence[Fallback] = ()) -> Prepared:
    """Resolves a request and reads its images; nothing is tracked yet.

    Args:
        config: the request.
        progress: reports progress.
        inherited: the fallbacks of the run that is resumed, or of the queued run.

    Raises:
        RequestError: the request cannot be run, or its images cannot be used.
    """
    plan = resolve(config, progress, inherited)
    check_parts(plan)
    check_weights(plan)
    limits = {"train": plan.config.train_limit, "val": plan.config.val_limit, "test": plan.config.test_limit}
    photos = load_cached(plan.photos, plan.config.image_size, cache_folder(plan.data_dir), progress, limits)
    leaks = across_splits(photos, progress)
    checked = dataclasses.replace(plan.photos, warnings=[*plan.photos.warnings, *leaks])
    return Prepared(dataclasses.replace(plan, photos=checked), photos, plan.digest(photos.digest))


def check_parts(plan: Plan) -> None:
    """Executes and tries the parts from outside this package, and keeps their files for later commands.

    Raises:
        RequestError: their code fails, an option is wrong, or they do not give feature maps, images or scores.
        WeightsError: a file of weights cannot be read, or does not fit.
    """
    config = plan.config
    for cut in plan.cuts:
        if cut.encoder in outside_encoders:
            source = plan.weights[cut.encoder]
            try_encoder(cut, source, source.identity(), config.image_size)
    if decoders.is_outside(config.decoder) or fusions.is_outside(config.fusion):
        shapes = tuple(cut.shape(config.image_size) for cut in plan.cuts)
        features = shapes[0]
        if fusions.is_outside(config.fusion):
            features = try_fusion(config.fusion, tuple(plan.fusion_options.items()), shapes)
        elif config.fusion != "none":
            features = fused_shape(config.fusion, plan.fusion_options, shapes)
        if decoders.is_outside(config.decoder):
            try_decoder(config.decoder, tuple(plan.options.items()), features, config.image_size)
    for name in metric_names(config.metrics):
        outside_metrics.get(name).try_on(config.image_size)
    if config.loss != NONE:
        outside_losses.get(config.loss).try_on(config.image_size)
    keep(config.parts)


def check_weights(plan: Plan) -> None:
    """Loads the plan's weights that are on this machine, so that unusable ones are found before the run begins.

    Raises:
        WeightsError: a file cannot be read, does not fit the encoder, or has values that cannot be used.
    """
    for name, source in plan.weights.items():
        if source.path or (source.kind == "imagenet" and cached_file(imagenet_location(name))):
            cuts = tuple(cut for cut in plan.cuts if cut.encoder == name)
            _check_weights(cuts, source, source.identity(), plan.config.image_size)
    if plan.lpips:
        _check_trunk(plan.lpips, plan.lpips.identity())


@functools.lru_cache(maxsize=256)
def _check_weights(cuts: tuple[EncoderCut, ...], source: WeightsSource, identity: str, image_size: int) -> None:
    """Checked once for all runs of a sweep; ``identity`` changes with the content, and is part of the cache's key."""
    build_several([EncoderRequest(cut, source) for cut in cuts], image_size)


@functools.lru_cache(maxsize=16)
def _check_trunk(trunk: TrunkSource, identity: str) -> None:
    trunk.check()


def make_trainer(
    prepared: Prepared, folder: Path, callbacks: Sequence[Callback] = (), stop: StopRequest | None = None,
    group: CoTrainingGroup | None = None,
) -> Trainer:
    """Builds the model and the trainer of a run.

    Args:
        prepared: the plan and the images.
        folder: where checkpoints are written.
        callbacks: called at each event of the training, in this order.
        stop: checked before every training step and every batch of a validation.
        group: the runs that train on the same encoder pass; by default this run alone.

    Raises:
        WeightsError: weights cannot be downloaded or loaded.
        torch.OutOfMemoryError: the model does not fit into the device's memory.
    """
    config = prepared.plan.config
    engine = make_engine(config)
    model, loss = build(prepared.plan)
    return Trainer(model, loss, training_data(prepared), config, engine, folder, prepared.digest, callbacks, stop,
                   group)


def build(plan: Plan) -> tuple[InversionModel, ReconstructionLoss]:
    """The model and the loss of a plan, on the CPU; downloads weights that are not cached.

    Raises:
        WeightsError: weights cannot be downloaded or loaded.
    """
    config = plan.config
    encoders = build_encoders(plan)
    fusion = None if config.fusion == "none" else config.fusion
    model = build_model(encoders, config.decoder, plan.options, fusion, config.image_size, config.seed,
                        plan.fusion_options)
    lpips = plan.lpips.load() if plan.lpips else None
    return model, ReconstructionLoss(config.mse_weight, config.lpips_weight, lpips, own_term(config))


def own_term(config: RunConfig) -> OwnTerm | None:
    """The term of the loss that the configuration names; None if it names none."""
    if config.loss == NONE:
        return None
    loss = outside_losses.get(config.loss)
    return OwnTerm(loss.logged_name, config.loss_weight, loss.make())


def build_encoders(plan: Plan) -> list[Encoder]:
    """The frozen encoders of a plan, on the CPU; downloads weights that are not cached.

    Raises:
        WeightsError: weights cannot be downloaded or loaded.
    """
    config = plan.config
    normalisation = IMAGENET if config.protocol == "published" else None
    return build_several(
        [EncoderRequest(cut, plan.weights[cut.encoder], normalisation) for cut in plan.cuts], config.image_size)


def training_data(prepared: Prepared) -> TrainingData:
    """Training batches and fixed crops of the run's images."""
    config, photos = prepared.plan.config, prepared.photos
    pixels = photos.pixels("train")
    crops_per_image = prepared.plan.photos.crops_per_image
    batches = TrainBatches(pixels, config.image_size, config.batch_size, crops_per_image, config.seed,
                           config.fixed_crops)
    device = torch.device(config.device)
    if device.type == "cuda" and batches.size < SHARE_FOR_IMAGES * torch.cuda.mem_get_info(device)[0]:
        batches.move_to(device)
    return TrainingData(
        batches,
        center_crops(pixels[:CALIBRATION_IMAGES], config.image_size),
        center_crops(photos.pixels("val"), config.image_size),
        photos.names("val"),
        feature_folder(prepared) if config.fixed_crops else None,
    )


def feature_folder(prepared: Prepared) -> FeatureFolder:
    """Where the features of fixed crops are stored, and what they depend on."""
    plan, config = prepared.plan, prepared.plan.config
    identity = {"photographs": prepared.photos.path.name, "image_size": config.image_size, "crops": config.crops,
                "protocol": config.protocol, "precision": config.precision}
    encoders = [None if any(modifier.is_random for modifier in cut.modifiers)
                else {"encoder": str(cut), "weights": plan.weights[cut.encoder].identity()} for cut in plan.cuts]
    lpips = {"lpips": plan.lpips.identity()} if plan.lpips else None
    return FeatureFolder(cache_folder(plan.data_dir) / "features", identity, encoders, lpips)


def score_test_set(prepared: Prepared, trainer: Trainer) -> Scores:
    """Scores of every test image, in the order of their names.

    Raises:
        InterruptedRunError: a stop was requested.
        OutOfMemoryError: not even one image fits into the device's memory.
    """
    return trainer.evaluator.score(crops_of_test_set(prepared), trainer.stop_if_requested)


def crops_of_test_set(prepared: Prepared) -> torch.Tensor:
    """Stored centre crops of the test images: ``uint8 (N, S, S, 3)``."""
    return center_crops(prepared.photos.pixels("test"), prepared.plan.config.image_size)


def floors_of_test_set(prepared: Prepared, trainer: Trainer, crops: torch.Tensor) -> dict[str, list[float]]:
    """The floors of each test image (``training.floors``), at the locations of the largest feature map."""
    training = center_crops(prepared.photos.pixels("train"), prepared.plan.config.image_size)
    return floor_scores(crops, largest_map(trainer.model.frozen), trainer.engine, training)


def size_metrics(trainer: Trainer) -> dict[str, float]:
    """The metrics of the model's size and cost, which are known before training."""
    model, size = trainer.model, trainer.config.image_size
    model.eval()
    return {
        "decoder_parameters": model.count_trainable(),
        **feature_metrics(model.frozen, size),
        "gflops_per_image": gflops_per_image(model, torch.zeros(1, 3, size, size, device=trainer.engine.device)),
    }


def feature_metrics(encoders: Sequence[Encoder], image_size: int) -> dict[str, float]:
    """The metrics of the features' size.

    ``feature_bits_per_pixel``, the bits of all feature maps of an image by its pixels (height × width), is there only
    if a modifier limits the bits of every map: how many bits unquantised features need is not known.
    """
    shapes = [encoder.feature_shape for encoder in encoders]
    bits = [encoder.cut.bits(image_size) for encoder in encoders]
    known = [number for number in bits if number is not None]
    rate = {"feature_bits_per_pixel": sum(known) / image_size**2} if len(known) == len(bits) else {}
    return {
        "feature_channels": sum(shape.channels for shape in shapes),
        "feature_locations": max(shape.spatial_positions for shape in shapes),
        "encoder_passes": len({id(encoder.trunk) for encoder in encoders}),
        **rate,
    }


def progress_metrics(trainer: Trainer) -> dict[str, float]:
    """The metrics of the training itself."""
    state = trainer.state
    known = {} if math.isnan(state.best_train_loss) else {"best/train_loss": state.best_train_loss}
    return known | {
        "best_epoch": state.best_epoch,
        "best/val_loss": state.best_loss,
        "best/val_psnr": float(counted(state.best_psnr)),  # earlier versions may have saved an infinite value
        "epochs_run": state.epoch,
        "train_seconds": state.train_seconds,
        "train_peak_memory_mb": state.peak_memory_mb,
    }
