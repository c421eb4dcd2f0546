"""MS-SSIM: structural similarity at five scales.

Wang, Simoncelli, Bovik, "Multi-scale structural similarity for image quality assessment", Asilomar 2003
(https://doi.org/10.1109/ACSSC.2003.1292216).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from inversion.metrics import K1, K2

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, from fine to coarse: table 1 of the paper."""

TAPS, SIGMA = 11, 1.5

SMALLEST_SIDE = TAPS * 2 ** (len(WEIGHTS) - 1)
"""176 pixels: the window fits into the coarsest scale. A smaller image has fewer scales, and no MS-SSIM."""


def ms_ssim(images: Tensor, targets: Tensor) -> Tensor:
    """MS-SSIM of each image, ``(B,)`` in [0, 1], float64, for images ``(B, 3, H, W)`` in [0, 1].

    As in the paper: Gaussian window of 11 taps and sigma 1.5, only where it lies inside the image; halved by averaging
    2×2 pixels; contrast and structure at every scale, luminance at the coarsest. Colours are scored apart and averaged;
    a negative structure term counts as 0, as in ``pytorch-msssim`` and ``piq``. Computed in float32 around the mean of
    each channel, which agrees with float64 to 1e-6; windows are matrix products, faster than convolutions on a CPU.

    Raises:
        ValueError: an image smaller than ``SMALLEST_SIDE``.
    """
    if min(images.shape[-2:]) < SMALLEST_SIDE:
        raise ValueError(f"MS-SSIM needs images of at least {SMALLEST_SIDE}×{SMALLEST_SIDE} pixels, not "
                         f"{tuple(images.shape[-2:])}")
    both = [values.float().contiguous() for values in (images, targets)]
    centres = [values.mean(dim=(2, 3), keepdim=True) for values in both]
    x, y = (values - centre for values, centre in zip(both, centres, strict=True))
    result = torch.ones(images.shape[:2], dtype=torch.float64, device=images.device)
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        similarity = _similarity(x, y, centres if scale == len(WEIGHTS) - 1 else None)
        result *= similarity.mean(dim=(2, 3), dtype=torch.float64).clamp_min(0) ** weight
    return result.mean(dim=1)


def _similarity(x: Tensor, y: Tensor, centres: Sequence[Tensor] | None) -> Tensor:
    """Contrast times structure at each place of the window, times luminance if what was subtracted is given.

    Exactly 1 for equal images: numerator and denominator are then rounded alike.
    """
    mean_x, mean_y = _window_means(x), _window_means(y)
    squares = mean_x * mean_x + mean_y * mean_y
    covariance = _window_means(x * y).sub_(mean_x * mean_y)
    variances = _window_means(x * x + y * y).sub_(squares)
    similarity = covariance.mul_(2).add_(K2**2).div_(variances.add_(K2**2))
    if centres:
        mean_x, mean_y = mean_x + centres[0], mean_y + centres[1]
        similarity *= (2 * mean_x * mean_y + K1**2) / (mean_x * mean_x + mean_y * mean_y + K1**2)
    return similarity


def _window_means(values: Tensor) -> Tensor:
    """Gaussian means in the last two dimensions, without borders: 10 pixels fewer in each."""
    rows, columns = (_band(size, values.device) for size in values.shape[-2:])
    return rows @ (values @ columns.T)


@functools.lru_cache(maxsize=64)
def _band(size: int, device: torch.device) -> Tensor:
    """The window as a matrix ``(size - 10, size)`` with the taps along its diagonal."""
    taps = torch.exp(-(torch.arange(TAPS, dtype=torch.float64) - TAPS // 2).square() / (2 * SIGMA**2))
    taps = (taps / taps.sum()).float()
    with torch.inference_mode(False):
        band = torch.zeros(size - TAPS + 1, size)
        for row in range(len(band)):
            band[row, row:row + TAPS] = taps
        return band.to(device)
