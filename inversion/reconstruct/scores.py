"""Scores of one picture of any size: in bands of rows, so that a large one does not fill the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from inversion import metrics
from inversion.losses.perceptual import LPIPS
from inversion.metrics import WINDOW

BAND_PIXELS = 2**21
LPIPS_PIXELS = 16_000_000
"""Pixels of the largest picture that LPIPS is computed for: AlexNet takes it in one piece, about 250 bytes a pixel."""


class PictureScores(NamedTuple):
    """PSNR in dB (infinite for equal images), SSIM, LPIPS (None where it is off or the picture too large), MSE."""

    psnr: float
    ssim: float
    lpips: float | None
    mse: float


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
