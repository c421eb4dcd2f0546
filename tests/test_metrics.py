"""Scores: closed forms, scikit-image's numbers; and PSNRs in means, which are finite whatever is exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from inversion import metrics
from inversion.errors import NonFiniteError
from inversion.metrics import count_exact, counted, decibels, exact_note, is_a_mean
from inversion.training import evaluate
from inversion.training.evaluate import Scores

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


def test_an_exact_image_counts_as_100_db_and_what_is_broken_stays_broken() -> None:
    values = counted([math.inf, 812.0, 100.0, 99.5, 20.0, 0.0, -math.inf])
    assert values.tolist() == [100.0, 100.0, 100.0, 99.5, 20.0, 0.0, -math.inf]
    assert math.isnan(counted([math.nan])[0])
    assert count_exact([math.inf, 812.0, 99.5, math.nan]) == 2


def test_a_better_image_never_lowers_a_mean() -> None:
    means = [float(counted([20.0, psnr]).mean()) for psnr in (30.0, 99.0, 120.0, 870.0, math.inf)]
    assert means == sorted(means)
    assert means[-1] == 60.0


@pytest.mark.parametrize(("psnr", "text"), [(math.inf, "exact"), (140.0, "exact"), (23.456, "23.46 dB")])
def test_an_image_is_shown_as_exact_or_in_decibels(psnr: float, text: str) -> None:
    assert decibels(psnr) == text


def test_what_earlier_versions_logged_is_no_mean() -> None:
    assert [is_a_mean(value) for value in (25.0, 100.0, 1.7976931348623157e308, math.inf, math.nan)] == [
        True, True, False, False, False]


def test_the_test_metrics_are_finite_and_say_how_many_images_were_exact() -> None:
    values = evaluate.final_metrics(Scores(psnr=[math.inf, 20.0, 30.0], ssim=[1.0, 0.5, 0.6], mse=[0.0, 0.01, 0.001]))
    assert values["test/psnr"] == pytest.approx(50.0)
    assert values["test/psnr_std"] == pytest.approx((3800 / 3) ** 0.5)
    assert values["test/exact_images"] == 1
    assert "test/exact_images" not in evaluate.final_metrics(Scores(psnr=[20.0], ssim=[0.5], mse=[0.01]))


def test_a_single_image_and_a_set_of_exact_ones_have_numbers_too() -> None:
    assert evaluate.final_metrics(Scores(psnr=[20.0], ssim=[0.5], mse=[0.01]))["test/psnr_std"] == 0.0
    values = evaluate.final_metrics(Scores(psnr=[math.inf] * 2, ssim=[1.0] * 2, mse=[0.0] * 2))
    assert (values["test/psnr"], values["test/psnr_std"], values["test/exact_images"]) == (100.0, 0.0, 2)


def test_an_image_without_scores_is_named() -> None:
    scores = Scores(psnr=[20.0, math.nan], ssim=[0.5, math.nan], mse=[0.01, math.nan])
    with pytest.raises(NonFiniteError, match=r"test image b\.png: its psnr is nan"):
        scores.require_numbers(["a.png", "b.png"])
    Scores(psnr=[math.inf], ssim=[1.0], mse=[0.0]).require_numbers(["a.png"])


def test_the_note_beside_a_mean() -> None:
    assert [exact_note(count) for count in (0, 1, 2)] == [
        "", "1 image exact, counted as 100 dB", "2 images exact, counted as 100 dB"]
