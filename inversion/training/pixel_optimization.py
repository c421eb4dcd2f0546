"""Inversion by optimisation: an image whose features are those of another one, found by gradient descent on its pixels.

Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015
(https://arxiv.org/abs/1412.0035). Nothing is trained. For each image x0 by itself this minimises over x in [0, 1]

    mean over the encoders of ‖φ(x) − φ(x0)‖² / ‖φ(x0)‖²  +  w · TV(x)

What it finds is ONE lower bound on what the features allow: it shows that so much of an image can be had from them, and
never that more cannot.

- x stays in [0, 1] by projection: it is clamped after every step, in place of the paper's penalty on the range. A
  sigmoid never reaches black and white and flattens the slope there: it got less far in as many steps
  (docs/optimize.md).
- The paper uses gradient descent with momentum; Adam with a cosine decay of its rate to 0 needs no tuning for features
  of other scales. Adam works on each pixel by itself and losses of images are added, so that no image knows its
  neighbours in a batch.
- The paper keeps w. Here it decays from tv_weight to 0, with the square of the rate's cosine: smoothness chooses among
  the images while the features leave a choice, and takes nothing from what they do say in the end. One weight then
  serves a layer that keeps nearly everything and one that is badly conditioned (docs/optimize.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from inversion.errors import NonFiniteError
from inversion.seeds import generator

CURVE_POINTS = 50
"""The objective is noted at so many steps at most, evenly spread, and at the last."""
START_SPREAD = 0.1
"""Standard deviation of the noise around grey that the descent begins with."""
SMALLEST_NORM = 1e-12


class Differentiable(Protocol):
    """Images ``(B, 3, S, S)`` in [0, 1] to features, with a gradient: what ``encoders.build.Encoder`` has."""

    def differentiable(self, images: Tensor) -> Tensor: ...


class Settings(NamedTuple):
    """Steps of the descent, and Adam's rate and the weight of total variation at its beginning."""

    steps: int
    lr: float
    tv_weight: float


@dataclass(frozen=True)
class Point:
    """The objective at one step, with the weight of that step, and its first term; each a mean over the images."""

    step: int
    loss: float
    feature_error: float


@dataclass(frozen=True)
class Inverted:
    """Images ``(B, 3, S, S)`` in [0, 1] that were found, and the way there."""

    images: Tensor
    curve: list[Point]


def invert(encoders: Sequence[Differentiable], images: Tensor, start: Tensor, settings: Settings,
           on_step: Callable[[int], None] = lambda step: None) -> Inverted:
    """Images that have the features of ``images`` ``(B, 3, S, S)``, searched for from ``start`` of the same shape.

    ``on_step`` is told each step that is done, from 1, and may raise.

    Raises:
        NonFiniteError: the objective or its gradient became infinite or NaN.
    """
    with torch.no_grad():
        target_features = [encoder.differentiable(images).float() for encoder in encoders]
    found = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([found], lr=settings.lr)
    noted, curve = steps_to_note(settings.steps), []
    for step in range(settings.steps):
        decay = (1 + math.cos(math.pi * step / settings.steps)) / 2
        optimizer.param_groups[0]["lr"] = settings.lr * decay
        losses, errors = objective(encoders, found, target_features, settings.tv_weight * decay**2)
        found.grad, = torch.autograd.grad(losses.sum(), found)
        if step in noted:
            curve.append(_point(step, losses, errors, found.grad))
        optimizer.step()
        with torch.no_grad():
            found.clamp_(0, 1)
        on_step(step + 1)
    found = found.detach()
    with torch.no_grad():
        errors = feature_errors(encoders, found, target_features)
        curve.append(_point(settings.steps, errors, errors, found))
    return Inverted(found, curve)


def objective(encoders: Sequence[Differentiable], images: Tensor, target_features: Sequence[Tensor],
              tv_weight: float) -> tuple[Tensor, Tensor]:
    """What the descent minimises for each image, ``(B,)``, and its first term, the feature error, ``(B,)``."""
    errors = feature_errors(encoders, images, target_features)
    return errors + tv_weight * total_variation(images), errors


def feature_errors(encoders: Sequence[Differentiable], images: Tensor, target_features: Sequence[Tensor]) -> Tensor:
    """``‖φ(x) − φ0‖² / ‖φ0‖²`` of each image, ``(B,)``: 0 where the features are equal, 1 for features of zeros.

    Several encoders count alike, whatever the size and scale of their features: the mean of their errors.
    """
    errors = []
    for encoder, target in zip(encoders, target_features, strict=True):
        difference = encoder.differentiable(images).float() - target
        norm = target.square().flatten(1).sum(1).clamp_min(SMALLEST_NORM)
        errors.append(difference.square().flatten(1).sum(1) / norm)
    return torch.stack(errors).mean(0)


def total_variation(images: Tensor) -> Tensor:
    """Squared differences of neighbouring pixels, down and across, a pixel and channel: ``(B, C, H, W)`` to ``(B,)``.

    The paper's R_V^β with β = 2, divided by C·H·W, so that its weight means the same at every image size.
    """
    across = images.diff(dim=3).square().flatten(1).sum(1)
    down = images.diff(dim=2).square().flatten(1).sum(1)
    return (across + down) / images[0].numel()


def starting_noise(indices: Sequence[int], size: int, seed: int) -> Tensor:
    """Grey with noise in [0, 1], ``(B, 3, S, S)``: each image's own, from the seed and its index in the data set."""
    noise = [torch.randn(3, size, size, generator=generator(seed, "optimize", index)) for index in indices]
    return (0.5 + START_SPREAD * torch.stack(noise)).clamp(0, 1)


def steps_to_note(steps: int) -> frozenset[int]:
    """The steps before the last at which the objective is noted: 0 and others, evenly spread."""
    return frozenset(range(0, steps, math.ceil(steps / CURVE_POINTS)))


def mean_curve(parts: Sequence[tuple[int, list[Point]]]) -> Iterator[Point]:
    """The curve over all images, from those of batches, each with its number of images."""
    total = sum(count for count, _ in parts)
    for points in zip(*(curve for _, curve in parts), strict=True):
        weighed = [(count / total, point) for (count, _), point in zip(parts, points, strict=True)]
        yield Point(points[0].step, sum(share * point.loss for share, point in weighed),
                    sum(share * point.feature_error for share, point in weighed))


def _point(step: int, losses: Tensor, errors: Tensor, also_finite: Tensor) -> Point:
    """Looked at only where it is noted: reading a value waits for the device."""
    if not bool(losses.isfinite().all() and also_finite.isfinite().all()):
        raise NonFiniteError(f"the objective or its gradient is not finite at step {step} of the optimisation: try a "
                             "smaller lr, or precision=fp32")
    return Point(step, losses.mean().item(), errors.mean().item())
