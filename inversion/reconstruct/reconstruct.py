"""Reconstructing one picture with one run: scaled and cropped like its test images, or whole, in tiles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion import metrics
from inversion.data.batches import center_crops
from inversion.data.decode import scaled_pixels
from inversion.images import from_stored, stored_size
from inversion.losses.lpips import LPIPS
from inversion.losses.reconstruction import make_targets
from inversion.metrics import WINDOW
from inversion.reconstruct.tiles import reconstruct_in_tiles
from inversion.runs.load import Reconstructor

Size = Literal["fit", "tiles"]

BAND_PIXELS = 2**21
LPIPS_PIXELS = 16_000_000
"""Pixels of the largest picture for which LPIPS is computed: AlexNet needs about 250 bytes per pixel for it."""


class PictureScores(NamedTuple):
    """PSNR in dB (infinite for equal images), SSIM, LPIPS (None if it is off or the picture is too large), MSE."""

    psnr: float
    ssim: float
    lpips: float | None
    mse: float


@dataclass(frozen=True)
class Reconstruction:
    """A picture and its reconstruction, images ``(3, H, W)`` in [0, 1]; ``difference`` is that to the scores' target.

    In the published protocol, the target is the normalised picture, clipped to [0, 1].
    """

    original: Tensor
    reconstruction: Tensor
    difference: Tensor
    scores: PictureScores


def reconstruct_picture(pixels: NDArray[np.uint8], size: Size, image_size: int, reconstructor: Reconstructor,
                        lpips: LPIPS | None) -> Reconstruction:
    """Reconstructs and scores a picture.

    Args:
        pixels: the picture, ``uint8 (H, W, 3)``.
        size: ``fit`` scales the picture and crops its centre, like test images; ``tiles`` keeps its own size.
        image_size: the side of the run's images, in pixels.
        reconstructor: the run's model.
        lpips: the LPIPS metric; None if it is off.

    Raises:
        OutOfMemoryError: not even one image fits into the device's memory.
    """
    if size == "fit":
        pixels = fitted(pixels, image_size)
        reconstruction = reconstructor.stored(torch.from_numpy(pixels)[None])[0]
    else:
        reconstruction = reconstruct_in_tiles(pixels, image_size, from_stored, reconstructor)
    # a copy, because the pixels may be read-only
    original = from_stored(torch.from_numpy(pixels.copy())[None])
    target = make_targets(original, reconstructor.engine.protocol).score[0]
    scores = score_picture(reconstruction, target, lpips)
    return Reconstruction(original[0], reconstruction, (reconstruction - target).abs(), scores)


def fitted(pixels: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """A picture scaled to a shorter side of 256/224 of ``S`` and cropped, like test images: ``uint8 (S, S, 3)``."""
    crop: NDArray[np.uint8] = center_crops([scaled_pixels(pixels, stored_size(image_size))], image_size)[0].numpy()
    return crop


@torch.no_grad()
def score_picture(image: Tensor, target: Tensor, lpips: LPIPS | None) -> PictureScores:
    """Scores of an image ``(3, H, W)`` in [0, 1] against a target of the same shape; at least 32 pixels per side."""
    height, width = image.shape[1:]
    squares = similarity = 0.0
    for first, last, end in _bands(height, width):
        rows = (image[None, :, first:last].contiguous(), target[None, :, first:last].contiguous())
        squares += float(metrics.mse(*rows)) * (last - first)
        windows = (image[None, :, first:end].contiguous(), target[None, :, first:end].contiguous())
        if end - first >= WINDOW:
            similarity += float(metrics.ssim(*windows)) * (end - first - WINDOW + 1)
    mse = squares / height
    distance = float(lpips(image[None], target[None])) if lpips and height * width <= LPIPS_PIXELS else None
    return PictureScores(-10 * math.log10(mse) if mse else math.inf, similarity / (height - WINDOW + 1), distance, mse)


def _bands(height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Bands of rows that are scored one at a time: their first row, their end, and the end of the windows that begin in
    them.
    """
    rows = max(WINDOW, BAND_PIXELS // width)
    for first in range(0, height, rows):
        last = min(first + rows, height)
        yield first, last, min(last + WINDOW - 1, height)
