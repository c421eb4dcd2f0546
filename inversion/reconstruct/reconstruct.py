"""One picture through one trained run: prepared as the run's test images are, or whole, in tiles."""

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
"""Pixels of the largest picture that LPIPS is computed for: AlexNet takes it in one piece, about 250 bytes a pixel."""


class PictureScores(NamedTuple):
    """PSNR in dB (infinite for equal images), SSIM, LPIPS (None where it is off or the picture too large), MSE."""

    psnr: float
    ssim: float
    lpips: float | None
    mse: float


@dataclass(frozen=True)
class Reconstruction:
    """A picture and what a run made of it, images ``(3, H, W)`` in [0, 1]; ``difference`` is what the scores count.

    Under the published protocol that is the difference to the normalised picture, clipped to [0, 1].
    """

    original: Tensor
    reconstruction: Tensor
    difference: Tensor
    scores: PictureScores


def reconstruct_picture(pixels: NDArray[np.uint8], size: Size, image_size: int, reconstructor: Reconstructor,
                        lpips: LPIPS | None) -> Reconstruction:
    """Reconstructs and scores a picture ``uint8 (H, W, 3)``.

    ``fit`` scales the shorter side and crops the centre, ``image_size`` pixels a side, as is done with test images;
    ``tiles`` keeps the picture's own size.

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
    """A picture prepared as test images are: ``uint8 (S, S, 3)``, its shorter side 256/224 of ``S`` before the crop."""
    crop: NDArray[np.uint8] = center_crops([scaled_pixels(pixels, stored_size(image_size))], image_size)[0].numpy()
    return crop


@torch.no_grad()
def score_picture(image: Tensor, target: Tensor, lpips: LPIPS | None) -> PictureScores:
    """Scores of an image ``(3, H, W)`` in [0, 1] against a target of the same shape, 32 pixels a side or more."""
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
    """First row, row behind the last, and row behind the last of the windows that begin in the band."""
    rows = max(WINDOW, BAND_PIXELS // width)
    for first in range(0, height, rows):
        last = min(first + rows, height)
        yield first, last, min(last + WINDOW - 1, height)
