"""Scores: closed forms, and scikit-image's numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from inversion import metrics

Photograph = Callable[[str, int], NDArray[np.uint8]]


def random_pair(seed: int = 0, size: tuple[int, int] = (20, 33)) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    images = torch.rand(3, 3, *size, generator=chance)
    return images, (images + 0.2 * torch.randn(images.shape, generator=chance)).clamp(0, 1)


@pytest.fixture
def natural_pair(photograph: Photograph) -> tuple[torch.Tensor, torch.Tensor]:
    """Two photographs, and both blurred by averaging 3×3 pixels."""
    pixels = np.stack([photograph("astronaut", 96), photograph("chelsea", 96)])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255.0
    return images, torch.nn.functional.avg_pool2d(images, 3, stride=1, padding=1)


def test_a_constant_offset_of_a_tenth_is_exactly_20_db() -> None:
    images = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
    assert metrics.psnr(images, images + 0.1).item() == pytest.approx(20.0, abs=1e-12)
    assert metrics.mse(images, images + 0.1).item() == pytest.approx(0.01, abs=1e-15)


def test_black_against_white_is_0_db() -> None:
    assert metrics.psnr(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)).item() == 0


def test_an_error_in_one_of_the_channels_is_shared_by_all_three() -> None:
    images, other = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    other[:, 0] = 0.3
    assert metrics.mse(images, other).item() == pytest.approx(0.03)


def test_identical_images_have_ssim_1_and_infinite_psnr() -> None:
    images, _ = random_pair()
    assert metrics.ssim(images, images).tolist() == pytest.approx([1.0] * 3, abs=1e-12)
    assert metrics.psnr(images, images).tolist() == [math.inf] * 3


def test_ssim_of_two_constant_images_is_the_luminance_term() -> None:
    dark, light = torch.full((1, 3, 9, 9), 0.2), torch.full((1, 3, 9, 9), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert metrics.ssim(dark, light).item() == pytest.approx(expected, abs=1e-6)


def test_ssim_of_an_image_and_its_negative_is_negative() -> None:
    images, _ = random_pair()
    assert (metrics.ssim(images, 1 - images) < -0.5).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(20, 33), (7, 7)])
def test_psnr_and_ssim_are_scikit_images_on_random_images(seed: int, size: tuple[int, int]) -> None:
    assert_like_scikit_image(*random_pair(seed, size))


def test_psnr_and_ssim_are_scikit_images_on_photographs(
        natural_pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert_like_scikit_image(*natural_pair)


def assert_like_scikit_image(images: torch.Tensor, targets: torch.Tensor) -> None:
    psnr, ssim = metrics.psnr(images, targets).tolist(), metrics.ssim(images, targets).tolist()
    for index, (image, target) in enumerate(zip(images.double().numpy(), targets.double().numpy(), strict=True)):
        expected_psnr = peak_signal_noise_ratio(target, image, data_range=1)  # type: ignore[no-untyped-call]
        expected_ssim = structural_similarity(  # type: ignore[no-untyped-call]
            target, image, data_range=1, channel_axis=0)
        assert psnr[index] == pytest.approx(expected_psnr, abs=1e-5)
        assert ssim[index] == pytest.approx(expected_ssim, abs=1e-5)


@pytest.mark.parametrize("score", [metrics.mse, metrics.psnr, metrics.ssim])
def test_a_batch_scores_like_each_image_alone(score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    images, targets = random_pair()
    together = score(images, targets)
    alone = [score(images[i : i + 1], targets[i : i + 1]).item() for i in range(3)]
    assert together.shape == (3,)
    assert together.tolist() == pytest.approx(alone, rel=1e-12)
    assert len(set(alone)) == 3


def test_scores_are_made_in_float64_whatever_the_images_are() -> None:
    images, targets = random_pair()
    for score in (metrics.mse, metrics.psnr, metrics.ssim):
        assert score(images.bfloat16(), targets.bfloat16()).dtype == torch.float64
    tiny = torch.full((1, 3, 8, 8), 1e-5)
    assert metrics.psnr(tiny, torch.zeros(1, 3, 8, 8)).item() == pytest.approx(100, abs=1e-4)


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    with pytest.raises(ValueError, match=r"at least 7×7 pixels, not \(6, 20\)"):
        metrics.ssim(torch.zeros(1, 3, 6, 20), torch.zeros(1, 3, 6, 20))
