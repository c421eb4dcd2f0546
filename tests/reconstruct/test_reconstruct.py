"""Scores of one picture, in bands of rows, are those of the picture."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from inversion.losses.lpips import LPIPS
from inversion.reconstruct import reconstruct
from inversion.reconstruct.reconstruct import score_picture


def pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(height)
    target = torch.rand(3, height, width, generator=chance)
    return (target + 0.1 * torch.randn(3, height, width, generator=chance)).clamp(0, 1), target


@pytest.mark.parametrize("rows", [7, 8, 13, 30, 1000])
@pytest.mark.parametrize("height", [32, 33, 50, 61])
def test_bands_of_any_height_give_scikit_images_scores(rows: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruct, "BAND_PIXELS", rows * 40)
    image, target = pair(height, 40)
    found = score_picture(image, target, None)
    arrays = [part.permute(1, 2, 0).double().numpy() for part in (target, image)]
    psnr = peak_signal_noise_ratio(*arrays, data_range=1)  # type: ignore[no-untyped-call]
    ssim = structural_similarity(*arrays, data_range=1, channel_axis=2)  # type: ignore[no-untyped-call]
    assert found.psnr == pytest.approx(psnr, abs=1e-9)
    assert found.ssim == pytest.approx(ssim, abs=1e-9)
    assert found.mse == pytest.approx(np.square(arrays[0] - arrays[1]).mean(), rel=1e-9)
    assert found.lpips is None


def test_a_perfect_reconstruction_has_infinite_psnr() -> None:
    image, _ = pair(32, 32)
    found = score_picture(image, image, None)
    assert (found.psnr, found.mse) == (math.inf, 0)
    assert found.ssim == pytest.approx(1)


def test_lpips_is_left_out_of_what_is_too_large(random_lpips: LPIPS, monkeypatch: pytest.MonkeyPatch) -> None:
    image, target = pair(40, 40)
    assert score_picture(image, target, random_lpips).lpips == pytest.approx(
        float(random_lpips(image[None], target[None])))
    monkeypatch.setattr(reconstruct, "LPIPS_PIXELS", 40 * 40 - 1)
    assert score_picture(image, target, random_lpips).lpips is None
