"""The range contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inversion.images import IMAGENET, from_stored, normalise, stored_size, to_uint8


def test_stored_pixels_become_images_in_0_to_1_and_go_back_unchanged() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(1, 16, 16, 3)
    images = from_stored(pixels)
    assert images.shape == (1, 3, 16, 16)
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (0, 1)
    assert images[0, 2, 3, 5].item() == pytest.approx(pixels[0, 3, 5, 2].item() / 255)
    assert np.array_equal(to_uint8(images[0]), pixels[0].numpy())


def test_pictures_are_clipped_and_rounded_not_wrapped() -> None:
    values = torch.tensor([-0.5, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.7]).view(1, 1, 6).expand(3, 1, 6)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_normalise_is_torchvisions() -> None:
    from torchvision.transforms.functional import normalize  # type: ignore[import-untyped]

    images = torch.rand(2, 3, 5, 7)
    torch.testing.assert_close(normalise(images, IMAGENET), normalize(images, IMAGENET.mean, IMAGENET.std))


@pytest.mark.parametrize(("crop", "stored"), [(224, 256), (64, 73), (32, 37), (448, 512)])
def test_photographs_are_stored_in_the_studys_proportion_to_the_crop(crop: int, stored: int) -> None:
    assert stored_size(crop) == stored
