"""Scores of a reconstruction, one number an image: PSNR, SSIM, mean squared error. LPIPS is in ``inversion.losses``.

All take images ``(B, 3, H, W)`` in [0, 1] (not rounded to 8 bits) and compute in float64 on the images' device.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW = 7
K1, K2 = 0.01, 0.03


def mse(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of each image: ``(B,)``."""
    return (images.double() - targets.double()).square().mean(dim=(1, 2, 3))


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1: ``(B,)``; infinite where both are equal."""
    return -10 * torch.log10(mse(images, targets))


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image, ``(B,)``, at most 1.

    scikit-image's defaults: uniform 7×7 window, sample covariance, data range 1, mean over the pixels whose window lies
    inside the image, then over the channels. Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE TIP 13(4), 2004.

    Raises:
        ValueError: an image smaller than the window.
    """
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}×{WINDOW} pixels, not {tuple(images.shape[-2:])}")
    x, y = (values.to(torch.float64, memory_format=torch.contiguous_format) for values in (images, targets))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variance_x = unbiased * (_window_mean(x * x) - mean_x * mean_x)
    variance_y = unbiased * (_window_mean(y * y) - mean_y * mean_y)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def _window_mean(values: Tensor) -> Tensor:
    """Means over 7×7 windows in the last two dimensions: a fifth of the time of ``avg_pool2d`` in float64."""
    return _sum_of_seven(_sum_of_seven(values, -2), -1).div_(WINDOW**2)


def _sum_of_seven(values: Tensor, dim: int) -> Tensor:
    """Sums of seven neighbours, as 4 + 2 + 1 of them."""
    size = values.shape[dim]
    two = values.narrow(dim, 0, size - 1) + values.narrow(dim, 1, size - 1)
    four = two.narrow(dim, 0, size - 3) + two.narrow(dim, 2, size - 3)
    six = four.narrow(dim, 0, size - 6) + two.narrow(dim, 4, size - 6)
    return six.add_(values.narrow(dim, 6, size - 6))
