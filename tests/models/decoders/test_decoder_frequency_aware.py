"""The frequency-aware decoder's synthesis is SciPy's inverse DCT of each block."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.fft import dctn, idctn  # type: ignore[import-untyped]

from inversion.errors import RequestError
from inversion.models import FeatureShape
from inversion.models.decoders import parse_decoder_options
from inversion.models.decoders._options import FrequencyAwareOptions
from inversion.models.decoders.frequency_aware import (
    FrequencyAwareDecoder,
    frequency_order,
    inverse_block_dct,
    inverse_dct_matrix,
)

BLOCKS = pytest.mark.parametrize("block", [4, 8, 16, 32])


def options(**values: object) -> FrequencyAwareOptions:
    return FrequencyAwareOptions.model_validate(values)


@BLOCKS
def test_each_block_is_scipys_inverse_dct_of_its_coefficients(block: int) -> None:
    grid = 3
    coefficients = torch.randn(2, 3, block**2, grid, grid, generator=torch.Generator().manual_seed(0))
    pixels = inverse_block_dct(coefficients, inverse_dct_matrix(block))
    assert pixels.shape == (2, 3, grid * block, grid * block)
    for image, colour, row, column in np.ndindex(2, 3, grid, grid):
        spectrum = np.zeros((block, block))
        for index, (u, v) in enumerate(frequency_order(block)):
            spectrum[u, v] = coefficients[image, colour, index, row, column]
        expected = idctn(spectrum, norm="ortho")
        found = pixels[image, colour, row * block : (row + 1) * block, column * block : (column + 1) * block]
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)


@BLOCKS
def test_a_photograph_comes_back_from_its_coefficients(
        block: int, photograph: Callable[[str, int], NDArray[np.uint8]]) -> None:
    image = photograph("chelsea", 64).transpose(2, 0, 1) / 255.0
    grid = 64 // block
    blocks = image.reshape(3, grid, block, grid, block).transpose(0, 1, 3, 2, 4)
    spectra = dctn(blocks, axes=(3, 4), norm="ortho")
    ordered = np.stack([spectra[..., u, v] for u, v in frequency_order(block)], axis=1)
    result = inverse_block_dct(torch.from_numpy(ordered).float()[None], inverse_dct_matrix(block))
    np.testing.assert_allclose(result[0].numpy(), image, atol=1e-5)


@BLOCKS
def test_frequencies_are_all_there_once_from_low_to_high(block: int) -> None:
    order = frequency_order(block)
    assert len(set(order)) == len(order) == block**2
    sums = [u + v for u, v in order]
    assert sums == sorted(sums)
    assert order[0] == (0, 0)


@pytest.mark.parametrize(("block", "cutoff", "low"), [
    ("8", 1, 1), ("8", 2, 3), ("8", 4, 10), ("8", 8, 36), ("8", 14, 63), ("4", 4, 10), ("4", 6, 15), ("16", 4, 10),
])
def test_low_frequencies_are_those_whose_sum_is_below_the_cutoff(block: str, cutoff: int, low: int) -> None:
    decoder = FrequencyAwareDecoder(FeatureShape(8, 4, 4), 64, options(block=block, cutoff=cutoff))
    assert decoder.low_count == low
    last = decoder.low[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert (last.out_channels, decoder.high.out_channels) == (3 * low, 3 * (int(block) ** 2 - low))


@pytest.mark.parametrize(("block", "cutoff", "highest"), [("4", 7, 6), ("8", 15, 14), ("8", 99, 14), ("16", 31, 30)])
def test_a_cutoff_that_leaves_no_high_frequency_is_refused(block: str, cutoff: int, highest: int) -> None:
    with pytest.raises(RequestError, match=f"cutoff={cutoff} leaves no high frequency in blocks of {block}; "
                                           f"the highest is {highest}$"):
        parse_decoder_options("frequency_aware", FrequencyAwareOptions, {"block": block, "cutoff": str(cutoff)})
    FrequencyAwareDecoder(FeatureShape(8, 4, 4), 64, options(block=block, cutoff=highest))


@BLOCKS
def test_every_block_size_gives_the_image_its_size(block: int) -> None:
    for shape in (FeatureShape(8, 32, 32), FeatureShape(8, 5, 5), FeatureShape(8, 2, 2)):
        decoder = FrequencyAwareDecoder(shape, 64, options(block=str(block)))
        assert decoder(torch.randn(2, *shape)).shape == (2, 3, 64, 64)


def test_an_untrained_decoder_draws_a_grey_image_with_little_noise() -> None:
    torch.manual_seed(0)
    decoder = FrequencyAwareDecoder(FeatureShape(64, 16, 16), 64, options())
    images = decoder(torch.randn(2, 64, 16, 16))
    assert abs(images.mean().item() - 0.5) < 0.05
    assert images.std().item() < 0.15


def test_constants_of_the_transform_are_in_no_checkpoint() -> None:
    state = FrequencyAwareDecoder(FeatureShape(8, 4, 4), 64, options()).state_dict()
    assert not {"gains", "inverse"} & set(state)
