"""Tiles cover a picture of any size and are blended without changing what they agree on."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion.images import from_stored
from inversion.reconstruct.tiles import reconstruct_in_tiles, tile_count, tile_starts

SIZES = [(32, 32), (33, 40), (32, 57), (100, 61), (7, 90), (20, 20), (129, 257)]


def pixels_of(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def in_tiles(pixels: NDArray[np.uint8], reconstruct: Callable[[Tensor], Tensor]) -> Tensor:
    return reconstruct_in_tiles(pixels, 32, from_stored, reconstruct)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_model_that_changes_nothing_gives_the_picture_back_to_the_bit(height: int, width: int) -> None:
    pixels = pixels_of(height, width)
    assert torch.equal(in_tiles(pixels, lambda images: images), from_stored(torch.from_numpy(pixels)[None])[0])


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("value", [1.0, 1 / 3])
def test_a_constant_comes_back_exactly__weights_sum_to_one(height: int, width: int, value: float) -> None:
    result = in_tiles(pixels_of(height, width), lambda images: torch.full_like(images, value))
    assert result.shape == (3, height, width)
    assert (result == torch.tensor(value)).all()


@pytest.mark.parametrize("length", [32, 33, 40, 57, 64, 100, 1000])
def test_tiles_reach_from_end_to_end_and_overlap_by_a_quarter(length: int) -> None:
    starts = tile_starts(length, 32)
    assert starts[0] == 0
    assert starts[-1] == length - 32
    assert all(0 < later - earlier <= 24 for earlier, later in itertools.pairwise(starts))


def test_no_more_tiles_are_computed_than_are_told() -> None:
    seen = 0

    def count(images: Tensor) -> Tensor:
        nonlocal seen
        seen += len(images)
        return images

    in_tiles(pixels_of(100, 61), count)
    assert seen == tile_count(100, 61, 32) == len(tile_starts(100, 32)) * len(tile_starts(61, 32)) == 4 * 3


def weights_of(starts: list[int], length: int) -> NDArray[np.float64]:
    """Each tile's weight at each pixel, from the definition: faded in over what is there, and over by what comes."""
    weights = np.zeros((len(starts), length))
    end = 0
    for index, start in enumerate(starts):
        rising = np.ones(32)
        overlap = max(0, end - start)
        rising[:overlap] = np.arange(1, overlap + 1) / (overlap + 1)
        weights[:index, start:start + 32] *= 1 - rising
        weights[index, start:start + 32] = rising
        end = start + 32
    return weights


@pytest.mark.parametrize("width", [33, 57, 61, 100])
def test_tiles_that_disagree_are_mixed_by_their_weights(width: int) -> None:
    starts = tile_starts(width, 32)
    values = np.random.default_rng(0).random(len(starts))
    weights = weights_of(starts, width)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-12)
    assert (weights >= 0).all()

    def constant_by_tile(images: Tensor) -> Tensor:
        return images * 0 + torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)

    result = in_tiles(pixels_of(32, width), constant_by_tile)
    np.testing.assert_allclose(result[0, 5].numpy(), values @ weights, atol=1e-6)


def test_a_seam_is_no_step() -> None:
    """Two tiles that differ by 1 pass into one another by equal steps."""
    result = in_tiles(pixels_of(32, 40), lambda images: images * 0 + torch.tensor([0.0, 1.0]).view(-1, 1, 1, 1))
    steps = result[0, 0].diff()
    assert (steps >= 0).all()
    assert steps.max() == pytest.approx(1 / 25, abs=1e-6)


def test_a_short_side_is_mirrored_for_the_model_and_cut_off_again() -> None:
    seen: list[Tensor] = []

    def look(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    pixels = pixels_of(20, 32)
    assert in_tiles(pixels, look).shape == (3, 20, 32)
    image = from_stored(torch.from_numpy(pixels)[None])[0]
    assert torch.equal(seen[0][0, :, 6:26], image)
    assert torch.equal(seen[0][0, :, :6], image[:, :6].flip(1))
