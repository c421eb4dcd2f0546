"""Floors: the PSNR of images that no encoder is needed for, against the same targets as the reconstructions.

- ``training_colour``: one colour for all images, the mean of the training images.
- ``mean_colour``: each image's own mean colour: what a single value for each channel holds.
- ``bicubic``: each image, reduced to as many pixels as the features have locations, and enlarged again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inversion.images import from_stored
from inversion.losses.reconstruction import make_targets
from inversion.metrics import counted, psnr
from inversion.models.encoders.build import Encoder
from inversion.training.device import Engine

BATCH = 8


def largest_map(encoders: Iterable[Encoder]) -> tuple[int, int]:
    """Height and width of the features with most locations."""
    shape = max((encoder.feature_shape for encoder in encoders), key=lambda each: each.spatial_positions)
    return shape.height, shape.width


@torch.no_grad()
def floor_scores(crops: Tensor, thumbnail: tuple[int, int], engine: Engine, training: Tensor | None = None
                 ) -> dict[str, list[float]]:
    """The floors of stored crops ``uint8 (N, S, S, 3)`` under the engine's protocol: PSNR of each image in dB, by name.

    Args:
        crops: the images to score.
        thumbnail: height and width of the features.
        engine: device and protocol.
        training: stored crops of the training images; without them there is no ``training_colour``.
    """
    colour = _mean_colour(training, engine) if training is not None and len(training) else None
    found: dict[str, list[float]] = {}
    for stored in crops.split(BATCH):
        targets = _targets(stored, engine)
        images = {"mean_colour": targets.mean(dim=(2, 3), keepdim=True).expand_as(targets),
                  "bicubic": through_thumbnail(targets, thumbnail)}
        if colour is not None:
            images["training_colour"] = colour.expand_as(targets)
        for name, made in images.items():
            found.setdefault(name, []).extend(psnr(made, targets).tolist())
    return found


def floor_metrics(scores: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The metrics ``floor/NAME_psnr``: means over the images, in dB."""
    return {f"floor/{name}_psnr": float(counted(values).mean()) for name, values in scores.items()}


def through_thumbnail(images: Tensor, thumbnail: tuple[int, int]) -> Tensor:
    """Images ``(B, 3, S, S)`` in [0, 1] reduced to ``thumbnail`` pixels (height, width) and enlarged again.

    PyTorch's bicubic filter both ways, antialiased on the way down (as Pillow's), and clamped to [0, 1] each time; the
    images themselves where the thumbnail is not smaller.
    """
    size = images.shape[2:]
    if thumbnail[0] >= size[0] and thumbnail[1] >= size[1]:
        return images
    small = F.interpolate(images, size=thumbnail, mode="bicubic", antialias=True).clamp(0, 1)
    return F.interpolate(small, size=size, mode="bicubic").clamp(0, 1)


def _targets(stored: Tensor, engine: Engine) -> Tensor:
    return make_targets(from_stored(engine.send(stored)), engine.protocol).score.contiguous()


def _mean_colour(crops: Tensor, engine: Engine) -> Tensor:
    """The mean of the targets of stored crops, as ``(3, 1, 1)``."""
    sums = [_targets(stored, engine).mean(dim=(2, 3)).double().sum(0) for stored in crops.split(BATCH)]
    return (torch.stack(sums).sum(0) / len(crops)).float().view(3, 1, 1)
