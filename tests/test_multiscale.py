"""MS-SSIM: closed forms, scipy's and pytorch-msssim's numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import correlate1d  # type: ignore[import-untyped]

from inversion.multiscale import SMALLEST_SIDE, WEIGHTS, ms_ssim

SIDE = 180


@pytest.fixture
def pair(photograph: Callable[[str, int], NDArray[np.uint8]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Three photographs, and the same blurred, with noise and darkened."""
    pixels = np.stack([photograph(name, SIDE) for name in ("astronaut", "chelsea", "coffee")])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
    noise = 0.1 * torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(images[:1], 5, stride=1, padding=2)
    return images, torch.cat([blurred, (images[1:2] + noise).clamp(0, 1), images[2:] * 0.7])


def by_scipy(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """MS-SSIM of one channel in float64, by the paper's formulas."""
    taps = np.exp(-np.arange(-5, 6) ** 2 / (2 * 1.5**2))
    taps /= taps.sum()

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = correlate1d(correlate1d(values, taps, 0), taps, 1)[5:-5, 5:-5]
        return result

    product = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = (values[:len(values) // 2 * 2, :len(values) // 2 * 2] for values in (x, y))
            x, y = ((v[::2, ::2] + v[1::2, ::2] + v[::2, 1::2] + v[1::2, 1::2]) / 4 for v in (x, y))
        variances = mean(x * x) - mean(x) ** 2 + mean(y * y) - mean(y) ** 2
        values = (2 * (mean(x * y) - mean(x) * mean(y)) + 0.03**2) / (variances + 0.03**2)
        if scale == len(WEIGHTS) - 1:
            values = values * (2 * mean(x) * mean(y) + 0.01**2) / (mean(x) ** 2 + mean(y) ** 2 + 0.01**2)
        product *= max(float(values.mean()), 0.0) ** weight
    return product


def test_it_is_the_papers_formula_in_float64_on_photographs(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    channels = [[one.double().numpy() for one in images] for images in zip(*pair, strict=True)]
    expected = [np.mean([by_scipy(*both) for both in zip(*images, strict=True)]) for images in channels]
    assert ms_ssim(*pair).tolist() == pytest.approx(expected, abs=2e-6)
    assert max(expected) < 0.995


def test_it_is_pytorch_msssims_on_photographs(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """That package is Wang's code in PyTorch; torchmetrics and TensorFlow treat borders or colours in another way."""
    from pytorch_msssim import ms_ssim as reference  # type: ignore[import-untyped]

    # at 192 pixels no scale has an odd side, which the package would pad
    images, targets = (torch.nn.functional.interpolate(values, size=192) for values in pair)
    expected = reference(images.double(), targets.double(), data_range=1.0, size_average=False)
    assert ms_ssim(images, targets).tolist() == pytest.approx(expected.tolist(), abs=2e-6)


def test_of_two_constant_images_only_the_luminance_of_the_coarsest_scale_counts() -> None:
    dark, light = torch.full((1, 3, SIDE, SIDE), 0.2), torch.full((1, 3, SIDE, SIDE), 0.6)
    luminance = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ms_ssim(dark, light).item() == pytest.approx(luminance ** WEIGHTS[-1], abs=1e-5)


def test_equal_images_have_exactly_1_and_a_negative_has_0(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, _ = pair
    assert ms_ssim(images, images).tolist() == [1.0] * 3
    assert ms_ssim(images, 1 - images).tolist() == [0.0] * 3


def test_an_image_does_not_depend_on_its_neighbours_in_the_batch(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    together = ms_ssim(*pair)
    assert [ms_ssim(*(values[index:index + 1] for values in pair)).item() for index in range(3)] == pytest.approx(
        together.tolist(), abs=1e-6)


def test_images_too_small_for_five_scales_are_refused() -> None:
    enough = torch.zeros(1, 3, SMALLEST_SIDE, SMALLEST_SIDE)
    assert ms_ssim(enough, enough).item() == 1
    with pytest.raises(ValueError, match="MS-SSIM needs images of at least 176×176 pixels"):
        ms_ssim(enough[..., 1:], enough[..., 1:])
