"""The wavelet decoder's synthesis is PyWavelets' inverse transform."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import pywt  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion.models import FeatureShape
from inversion.models.decoders._options import WaveletOptions
from inversion.models.decoders.wavelet import WaveletDecoder, inverse_dwt

Bands = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
Border = Callable[[NDArray[np.float64]], NDArray[np.float64]]

SEVERAL = pytest.mark.parametrize("wavelet", ["haar", "db2", "bior2.2", "bior4.4"])


def random_coefficients(size: int, levels: int) -> tuple[Tensor, list[Tensor]]:
    chance = torch.Generator().manual_seed(0)
    approximation = torch.randn(2, 3, size, size, generator=chance)
    return approximation, [torch.randn(2, 9, size << level, size << level, generator=chance)
                           for level in range(levels)]


def one_level(approximation: Tensor, details: Tensor, wavelet: str, border: Border) -> NDArray[np.float64]:
    """PyWavelets' ``idwt2`` of each colour of each image, after ``border`` has been put around each band."""
    horizontal, vertical, diagonal = (part.double().numpy() for part in details.chunk(3, dim=1))
    return np.stack([
        np.stack([
            pywt.idwt2((border(approximation[image, colour].double().numpy()),
                        tuple(border(band[image, colour]) for band in (horizontal, vertical, diagonal))), wavelet)
            for colour in range(3)
        ]) for image in range(len(approximation))
    ])


@SEVERAL
def test_every_level_is_idwt2_wherever_the_border_does_not_reach(wavelet: str) -> None:
    approximation, details = random_coefficients(12, 3)
    taps = pywt.Wavelet(wavelet).dec_len
    begin = 2 * ((taps // 2 - 1) // 2)
    for level in range(3):
        finer = inverse_dwt(approximation, [details[level]], wavelet)
        expected = one_level(approximation, details[level], wavelet, lambda band: band)
        size = expected.shape[-1]
        assert size == 2 * approximation.shape[-1] - taps + 2
        interior = finer[:, :, begin : begin + size, begin : begin + size]
        np.testing.assert_allclose(interior.numpy(), expected, atol=1e-5)
        approximation = finer


@SEVERAL
def test_several_levels_are_idwt2_of_bands_that_repeat_their_last_coefficient(wavelet: str) -> None:
    approximation, details = random_coefficients(5, 4)
    beyond = pywt.Wavelet(wavelet).dec_len // 2 - 1

    def border(band: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.pad(band, (beyond // 2, beyond - beyond // 2), mode="edge")

    expected = approximation.double()
    for level in details:
        expected = torch.from_numpy(one_level(expected, level, wavelet, border))
    result = inverse_dwt(approximation, details, wavelet)
    assert result.shape == (2, 3, 80, 80)
    torch.testing.assert_close(result.double(), expected, atol=1e-4, rtol=1e-4)


def test_a_photograph_comes_back_from_its_haar_coefficients(
        photograph: Callable[[str, int], NDArray[np.uint8]]) -> None:
    image = photograph("astronaut", 64).transpose(2, 0, 1) / 255.0
    approximation, *levels = pywt.wavedec2(image, "haar", level=4, axes=(1, 2))
    details = [torch.from_numpy(np.concatenate(level)).float()[None] for level in levels]
    result = inverse_dwt(torch.from_numpy(approximation).float()[None], details, "haar")
    np.testing.assert_allclose(result[0].numpy(), image, atol=1e-5)


@pytest.mark.parametrize("wavelet", pywt.wavelist(kind="discrete")[::5])
def test_every_fifth_discrete_wavelet_doubles_the_width(wavelet: str) -> None:
    approximation, details = random_coefficients(3, 1)
    result = inverse_dwt(approximation, details, wavelet)
    assert result.shape == (2, 3, 6, 6)
    assert torch.isfinite(result).all()


@pytest.mark.parametrize(("side", "levels"), [(112, 1), (56, 2), (28, 3), (14, 4), (7, 5), (224, 1), (16, 4)])
def test_there_are_as_many_levels_as_doublings_from_the_features_to_the_image(side: int, levels: int) -> None:
    decoder = WaveletDecoder(FeatureShape(8, side, side), 224, WaveletOptions())
    assert decoder.levels == len(decoder.details) == levels


def test_an_untrained_decoder_draws_a_grey_image_with_little_noise() -> None:
    torch.manual_seed(0)
    for wavelet in ("haar", "db2"):
        decoder = WaveletDecoder(FeatureShape(64, 16, 16), 64, WaveletOptions.model_validate({"wavelet": wavelet}))
        images = decoder(torch.randn(2, 64, 16, 16))
        assert abs(images.mean().item() - 0.5) < 0.05
        assert images.std().item() < 0.15


def test_an_orthonormal_wavelet_that_is_another_one_gives_another_image() -> None:
    approximation, details = random_coefficients(4, 2)
    assert not torch.allclose(inverse_dwt(approximation, details, "haar"), inverse_dwt(approximation, details, "db2"))
