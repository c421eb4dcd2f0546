"""Scores of a model on fixed crops: per image, and their means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from inversion import metrics
from inversion.errors import NonFiniteError
from inversion.images import from_stored
from inversion.losses.lpips import LPIPS
from inversion.losses.reconstruction import ReconstructionLoss, Targets, make_targets
from inversion.metrics import FURTHER, METRICS, count_exact, counted
from inversion.models.model import InversionModel
from inversion.training.device import Engine
from inversion.training.feature_cache import FeatureCache
from inversion.training.further_scores import FurtherScores
from inversion.training.measure import synchronised_time
from inversion.training.memory import BatchSize

Array = npt.NDArray[np.float64]

BATCH = 8


@dataclass
class Scores:
    """Scores of images, one value per image in their order; a list is empty if its score is not computed.

    Times are in seconds; ``seconds`` does not include the ``FURTHER`` scores, which ``further_seconds`` does.
    """

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    mse: list[float] = field(default_factory=list)
    lpips: list[float] = field(default_factory=list)
    ms_ssim: list[float] = field(default_factory=list)
    lpips_vgg: list[float] = field(default_factory=list)
    dists: list[float] = field(default_factory=list)
    feature_cosine: list[float] = field(default_factory=list)
    feature_error: list[float] = field(default_factory=list)
    loss_mse: list[float] = field(default_factory=list)
    loss_lpips: list[float] = field(default_factory=list)
    loss_own: list[float] = field(default_factory=list)
    own: dict[str, list[float]] = field(default_factory=dict)
    """Those of a user's own metrics, by the names under which they are logged."""
    forward_seconds: float = 0.0
    seconds: float = 0.0
    further_seconds: float = 0.0

    def add(self, other: Scores) -> None:
        """Appends the scores of more images, and adds their times."""
        self.add_further(other.own)
        for item in fields(self):
            if item.name != "own":
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))

    def add_further(self, found: Mapping[str, list[float]]) -> None:
        """Appends values of ``FURTHER`` scores and of a user's own by their names."""
        for name, values in found.items():
            (getattr(self, name) if name in FURTHER else self.own.setdefault(name, [])).extend(values)

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics of which there are values."""
        return [*(name for name in METRICS if getattr(self, name)), *self.own]

    def of(self, name: str) -> list[float]:
        """The values of a metric, one per image; empty if it is not computed."""
        values: list[float] = self.own.get(name, []) if name not in vars(self) else getattr(self, name)
        return values

    def counted(self, name: str) -> Array:
        """One list of scores as it counts in means: PSNR is capped by ``inversion.metrics.counted``."""
        values = self.of(name)
        return counted(values) if name == "psnr" else np.asarray(values, np.float64)

    def mean(self, name: str) -> float:
        """Mean over the images of one list of scores."""
        return float(np.mean(self.counted(name)))

    def std(self, name: str) -> float:
        """Standard deviation over the images, with ddof 0."""
        return float(np.std(self.counted(name)))

    def require_numbers(self, names: Sequence[str]) -> None:
        """Raises a NonFiniteError that names the first image with a score that is not finite."""
        for score in METRICS:
            for name, value in zip(names, self.counted(score), strict=False):
                if not np.isfinite(value):
                    raise NonFiniteError(f"test image {name}: its {score} is {value}, because its reconstruction is "
                                         "not finite. Try precision=fp32, or a lower lr.")

    def loss(self, loss: ReconstructionLoss) -> float:
        """The training loss on these images; NaN if any score is NaN."""
        total = loss.mse_weight * self.mean("loss_mse")
        if self.loss_lpips and loss.lpips_weight:
            total += loss.lpips_weight * self.mean("loss_lpips")
        if loss.own is not None:
            total += loss.own.weight * self.mean("loss_own")
        return total


def no_batch_hook(images: Tensor, reconstructions: Tensor) -> None:
    """Does nothing after a batch."""


@torch.no_grad()
def evaluate(
    model: InversionModel,
    crops: Tensor,
    loss: ReconstructionLoss,
    engine: Engine,
    before_batch: Callable[[], None] = lambda: None,
    batch: BatchSize | None = None,
    cache: FeatureCache | None = None,
    on_batch: Callable[[Tensor, Tensor], None] = no_batch_hook,
    further: FurtherScores | None = None,
) -> Scores:
    """Scores of stored crops ``uint8 (N, S, S, 3)``, computed in batches; the model is in eval mode afterwards.

    The times do not include attempts that ran out of memory.

    Args:
        model: the model, on the engine's device.
        crops: the crops.
        loss: gives the loss terms and has the LPIPS metric, if that is on.
        engine: device, precision and protocol.
        before_batch: called before each batch; what it raises ends the evaluation.
        batch: keeps the batch size that fits from one call to the next.
        cache: keeps features of these crops from one call to the next.
        on_batch: called with the images and reconstructions of each batch.
        further: computes more scores; None for those of a validation.

    Raises:
        OutOfMemoryError: not even one image fits.
    """
    model.eval()
    batch = batch or BatchSize(BATCH, f"image_size {crops.shape[1]}")
    cache = cache or FeatureCache(room=0)
    scores = Scores()

    def score(stored: Tensor) -> tuple[Scores, Tensor, Tensor]:
        before_batch()
        return _score(model, stored, loss, engine, cache, len(scores.psnr), further)

    for part, images, reconstructions in batch.map(score, crops):
        scores.add(part)
        on_batch(images, reconstructions)
    return scores


def _score(model: InversionModel, stored: Tensor, loss: ReconstructionLoss, engine: Engine, cache: FeatureCache,
           first: int, further: FurtherScores | None) -> tuple[Scores, Tensor, Tensor]:
    """Scores, images and reconstructions. ``first`` is the index of the first crop; with the number of crops, it is the
    key in the cache.
    """
    scores, crops = Scores(), (first, len(stored))
    start = synchronised_time(engine.device)
    images = from_stored(engine.send(stored))
    targets = make_targets(images, engine.protocol)
    forward_start = synchronised_time(engine.device)
    with engine.autocast():
        features = cache.get(("features", crops), lambda: model.encode(images))
        reconstructions = model(images, features).float()
    scores.forward_seconds = synchronised_time(engine.device) - forward_start
    _compare(scores, reconstructions, targets)
    if loss.lpips is not None:
        _compare_perceptually(scores, reconstructions, targets, loss.lpips, engine, cache, crops)
    if loss.own is not None:
        with engine.autocast():
            scores.loss_own = [loss.own(reconstructions, targets.loss).item()] * len(images)
    scores.seconds = synchronised_time(engine.device) - start
    if further is not None:
        scores.add_further(further.score(reconstructions, targets.score, features, model.encode))
        scores.further_seconds = synchronised_time(engine.device) - start - scores.seconds
    return scores, images, reconstructions


def _compare_perceptually(scores: Scores, images: Tensor, targets: Targets, lpips: LPIPS, engine: Engine,
                          cache: FeatureCache, crops: tuple[int, int]) -> None:
    with engine.autocast():
        levels = lpips.features(images)
        target_features = cache.get(("score", crops), lambda: lpips.target_features(targets.score))
        scores.lpips = lpips.distance(levels, target_features).tolist()
        scores.loss_lpips = scores.lpips
        if targets.loss is not targets.score:
            target_features = cache.get(("loss", crops), lambda: lpips.target_features(targets.loss))
            scores.loss_lpips = lpips.distance(levels, target_features).tolist()


def _compare(scores: Scores, images: Tensor, targets: Targets) -> None:
    scores.psnr = metrics.psnr(images, targets.score).tolist()
    scores.ssim = metrics.ssim(images, targets.score).tolist()
    scores.mse = metrics.mse(images, targets.score).tolist()
    same = targets.loss is targets.score
    scores.loss_mse = scores.mse if same else metrics.mse(images, targets.loss).tolist()


def validation_metrics(scores: Scores, loss: ReconstructionLoss) -> dict[str, float]:
    """The ``val/…`` metrics of an epoch."""
    values = {"val/loss": scores.loss(loss), "val/mse": scores.mean("loss_mse"),
              "val/psnr": scores.mean("psnr"), "val/ssim": scores.mean("ssim")}
    if scores.loss_lpips:
        values["val/lpips"] = scores.mean("loss_lpips")
    if loss.own is not None:
        values[f"val/{loss.own.name}"] = scores.mean("loss_own")
    return values


def final_metrics(scores: Scores) -> dict[str, float]:
    """The ``test/…`` metrics: mean and standard deviation (ddof 0) over the images, and the times.

    ``test/exact_images`` is the number of exact reconstructions; it is left out if there are none.
    """
    values: dict[str, float] = {}
    for name in scores.metrics:
        values[f"test/{name}"] = scores.mean(name)
        values[f"test/{name}_std"] = scores.std(name)
    if exact := count_exact(scores.psnr):
        values["test/exact_images"] = exact
    values["eval_seconds"] = scores.seconds
    if scores.own or any(getattr(scores, name) for name in FURTHER):
        values["eval_further_seconds"] = scores.further_seconds
    values["inference_ms_per_image"] = 1000 * scores.forward_seconds / max(1, len(scores.psnr))
    return values


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are finite: MLflow stores an infinite one as 1.8e308."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
