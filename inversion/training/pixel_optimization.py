"""Inversion by optimisation: an image with given features, found by gradient descent on its pixels.

Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015
(https://arxiv.org/abs/1412.0035). Nothing is trained. For each image x0 by itself this minimises over x in [0, 1]

    mean over the encoders of ‖φ(x) − φ(x0)‖² / ‖φ(x0)‖²  +  w · TV(x)

The result is ONE lower bound on what the features allow: it shows that this much of an image can be recovered, never
that more cannot.

- x stays in [0, 1] by projection: it is clamped after every step, instead of the paper's penalty on the range. A
  sigmoid never reaches black or white, and its gradient vanishes there: it achieved less in as many steps
  (docs/optimize.md).
- The paper uses gradient descent with momentum. Adam with a cosine decay of the learning rate to 0 needs no tuning for
  features of other scales. Adam works per pixel and the losses of the images are added, so an image does not depend on
  the others in its batch.
- The paper keeps w constant. Here it decays from tv_weight to 0 with the square of the learning rate's cosine:
  smoothness selects among images with nearly the same features, and does not affect the end of the descent. So one
  weight works for layers that keep nearly everything and for badly conditioned ones (docs/optimize.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from inversion.errors import NonFiniteError
from inversion.seeds import generator

CURVE_POINTS = 50
"""Maximum number of evenly spaced steps at which the objective is recorded, besides the last one."""

START_SPREAD = 0.1
"""Standard deviation of the initial noise around grey."""

SMALLEST_NORM = 1e-12


Encode: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
"""Images ``(B, 3, S, S)`` in [0, 1] to the features of each encoder, with gradients to images that require them."""


class Settings(NamedTuple):
    """Number of steps, and the initial values of the learning rate and of the weight of total variation."""

    steps: int
    lr: float
    tv_weight: float


@dataclass(frozen=True)
class Point:
    """The objective at one step, with that step's weight, and its first term; both are means over the images."""

    step: int
    loss: float
    feature_error: float


@dataclass(frozen=True)
class Inverted:
    """The images found, ``(B, 3, S, S)`` in [0, 1], and the curve of the objective."""

    images: Tensor
    curve: list[Point]


def invert(encode: Encode, images: Tensor, start: Tensor, settings: Settings,
           on_step: Callable[[int], None] = lambda step: None, target_features: Sequence[Tensor] = ()) -> Inverted:
    """Searches for images with the features of given images.

    Args:
        encode: the frozen encoders.
        images: the images to invert, ``(B, 3, S, S)`` in [0, 1].
        start: the initial images, of the same shape.
        settings: the settings of the descent.
        on_step: called after each step with its number, from 1; what it raises ends the search.
        target_features: the features to search for, in float32, one map per encoder, where they are not exactly those
            of the images, as with noise.

    Raises:
        NonFiniteError: the features are not finite, or the objective or its gradient became infinite or NaN.
    """
    with torch.no_grad():
        target_features = target_features or [features.float() for features in encode(images)]
    if not all(bool(features.isfinite().all()) for features in target_features):
        raise NonFiniteError("the features of the images are not finite, before any optimisation: the encoder's "
                             "weights are damaged, or too large for the precision")
    found = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([found], lr=settings.lr)
    recorded, curve = steps_to_record(settings.steps), []
    for step in range(settings.steps):
        decay = (1 + math.cos(math.pi * step / settings.steps)) / 2
        optimizer.param_groups[0]["lr"] = settings.lr * decay
        losses, errors = objective(encode, found, target_features, settings.tv_weight * decay**2)
        found.grad, = torch.autograd.grad(losses.sum(), found)
        if step in recorded:
            curve.append(_point(step, losses, errors, found.grad))
        optimizer.step()
        with torch.no_grad():
            found.clamp_(0, 1)
        on_step(step + 1)
    found = found.detach()
    with torch.no_grad():
        errors = feature_errors(encode, found, target_features)
        curve.append(_point(settings.steps, errors, errors, found))
    return Inverted(found, curve)


def objective(encode: Encode, images: Tensor, target_features: Sequence[Tensor],
              tv_weight: float) -> tuple[Tensor, Tensor]:
    """The objective of each image, ``(B,)``, and its first term, the feature error, ``(B,)``."""
    errors = feature_errors(encode, images, target_features)
    return errors + tv_weight * total_variation(images), errors


def feature_errors(encode: Encode, images: Tensor, target_features: Sequence[Tensor]) -> Tensor:
    """``‖φ(x) − φ0‖² / ‖φ0‖²`` of each image, ``(B,)``: 0 for equal features, 1 for features that are 0.

    For several encoders, the mean of their errors: each counts the same, whatever the size and scale of its features.
    """
    errors = []
    for features, target in zip(encode(images), target_features, strict=True):
        difference = features.float() - target
        norm = target.square().flatten(1).sum(1).clamp_min(SMALLEST_NORM)
        errors.append(difference.square().flatten(1).sum(1) / norm)
    return torch.stack(errors).mean(0)


def total_variation(images: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, vertically plus horizontally: ``(B, C, H, W)`` to ``(B,)``.

    The paper's R_V^β with β = 2, divided by C·H·W, so that its weight has the same effect at every image size.
    """
    across = images.diff(dim=3).square().flatten(1).sum(1)
    down = images.diff(dim=2).square().flatten(1).sum(1)
    return (across + down) / images[0].numel()


def starting_noise(indices: Sequence[int], size: int, seed: int) -> Tensor:
    """Initial images ``(B, 3, S, S)`` in [0, 1]: grey with noise, from the seed and each image's index in the data."""
    noise = [torch.randn(3, size, size, generator=generator(seed, "optimize", index)) for index in indices]
    return (0.5 + START_SPREAD * torch.stack(noise)).clamp(0, 1)


def steps_to_record(steps: int) -> frozenset[int]:
    """The steps at which the objective is recorded: 0 and others, evenly spaced; the last one is recorded besides."""
    return frozenset(range(0, steps, math.ceil(steps / CURVE_POINTS)))


def mean_curve(parts: Sequence[tuple[int, list[Point]]]) -> Iterator[Point]:
    """The mean curve over all images, from the number of images and the curve of each batch."""
    total = sum(count for count, _ in parts)
    for points in zip(*(curve for _, curve in parts), strict=True):
        weighted = [(count / total, point) for (count, _), point in zip(parts, points, strict=True)]
        yield Point(points[0].step, sum(share * point.loss for share, point in weighted),
                    sum(share * point.feature_error for share, point in weighted))


def _point(step: int, losses: Tensor, errors: Tensor, also_finite: Tensor) -> Point:
    """A point of the curve. Only recorded steps are checked, because reading a value waits for the device."""
    if not bool(losses.isfinite().all() and also_finite.isfinite().all()):
        raise NonFiniteError(f"the objective or its gradient is not finite at step {step} of the optimisation: try a "
                             "smaller lr, or precision=fp32")
    return Point(step, losses.mean().item(), errors.mean().item())
