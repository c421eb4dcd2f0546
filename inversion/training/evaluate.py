"""Scores of a model on fixed crops: every image's, and their means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from inversion import metrics
from inversion.images import from_stored
from inversion.losses import LPIPS, ReconstructionLoss, Targets, make_targets
from inversion.model import InversionModel
from inversion.training.device import Engine
from inversion.training.measure import synchronised_time

BATCH = 8


@dataclass
class Scores:
    """One value an image, in the order of the images; ``lpips`` is empty when it is off. Times in seconds."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    mse: list[float] = field(default_factory=list)
    lpips: list[float] = field(default_factory=list)
    loss_mse: list[float] = field(default_factory=list)
    loss_lpips: list[float] = field(default_factory=list)
    forward_seconds: float = 0.0
    seconds: float = 0.0

    def mean(self, name: str) -> float:
        """Mean over the images of one list of scores."""
        return float(np.mean(getattr(self, name)))

    def std(self, name: str) -> float:
        """Standard deviation over the images, with ddof 0."""
        return float(np.std(getattr(self, name)))

    def loss(self, loss: ReconstructionLoss) -> float:
        """The training loss on these images; NaN never hides: a NaN score makes a NaN loss."""
        total = loss.mse_weight * self.mean("loss_mse")
        if self.loss_lpips and loss.lpips_weight:
            total += loss.lpips_weight * self.mean("loss_lpips")
        return total


@torch.no_grad()
def evaluate(
    model: InversionModel,
    crops: Tensor,
    loss: ReconstructionLoss,
    engine: Engine,
    between: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores stored crops ``uint8 (N, S, S, 3)`` in batches; ``between`` is called before each and may raise."""
    scores = Scores()
    model.eval()
    start = synchronised_time(engine.device)
    for stored in crops.split(BATCH):
        between()
        images = from_stored(stored.to(engine.device))
        targets = make_targets(images, engine.protocol)
        forward_start = synchronised_time(engine.device)
        with engine.autocast():
            reconstructions = model(images)
        scores.forward_seconds += synchronised_time(engine.device) - forward_start
        _add(scores, reconstructions.float(), targets, loss.lpips, engine)
    scores.seconds = synchronised_time(engine.device) - start
    return scores


def _add(scores: Scores, images: Tensor, targets: Targets, lpips: LPIPS | None, engine: Engine) -> None:
    scores.psnr += metrics.psnr(images, targets.score).tolist()
    scores.ssim += metrics.ssim(images, targets.score).tolist()
    scores.mse += metrics.mse(images, targets.score).tolist()
    same = targets.loss is targets.score
    scores.loss_mse += scores.mse[-len(images):] if same else metrics.mse(images, targets.loss).tolist()
    if lpips is not None:
        with engine.autocast():
            scores.lpips += lpips(images, targets.score).tolist()
            scores.loss_lpips += scores.lpips[-len(images):] if same else lpips(images, targets.loss).tolist()


def validation_metrics(scores: Scores, loss: ReconstructionLoss) -> dict[str, float]:
    """The ``val/…`` metrics of an epoch."""
    values = {"val/loss": scores.loss(loss), "val/mse": scores.mean("loss_mse"),
              "val/psnr": scores.mean("psnr"), "val/ssim": scores.mean("ssim")}
    if scores.loss_lpips:
        values["val/lpips"] = scores.mean("loss_lpips")
    return values


def test_metrics(scores: Scores) -> dict[str, float]:
    """The ``test/…`` metrics: mean and standard deviation (ddof 0) over the images, and what scoring them took."""
    values = {}
    for name in ("psnr", "ssim", "lpips"):
        if getattr(scores, name):
            values[f"test/{name}"] = scores.mean(name)
            values[f"test/{name}_std"] = scores.std(name)
    values["eval_seconds"] = scores.seconds
    values["inference_ms_per_image"] = 1000 * scores.forward_seconds / max(1, len(scores.psnr))
    return values
