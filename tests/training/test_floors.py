"""Floors: closed forms, Pillow's thumbnails, and the protocol of the run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inversion.images import from_stored
from inversion.metrics import EXACT_DB
from inversion.training.device import Engine
from inversion.training.floors import floor_metrics, floor_scores, through_thumbnail


def engine(protocol: Literal["image", "published"] = "image") -> Engine:
    return Engine(torch.device("cpu"), "fp32", protocol)


def floors(crops: torch.Tensor, thumbnail: tuple[int, int], device: Engine, training: torch.Tensor | None = None
           ) -> dict[str, float]:
    """The logged metrics."""
    return floor_metrics(floor_scores(crops, thumbnail, device, training))


def halves(dark: int, light: int, count: int = 1) -> torch.Tensor:
    """Images of 8 pixels, the left half of one grey and the right half of another."""
    images = torch.full((count, 8, 8, 3), dark, dtype=torch.uint8)
    images[:, :, 4:] = light
    return images


def test_the_mean_colour_misses_each_half_by_half_the_difference() -> None:
    found = floors(halves(51, 102), (8, 8), engine())
    assert found["floor/mean_colour_psnr"] == pytest.approx(20, abs=1e-4)  # 0.2 and 0.4, missed by 0.1


def test_the_colour_of_training_is_one_for_all_images() -> None:
    training = torch.cat([halves(0, 0, 3), halves(204, 204)])  # mean 51
    images = torch.cat([halves(102, 102), halves(51, 51)])
    found = floors(images, (8, 8), engine(), training)
    assert found["floor/training_colour_psnr"] == pytest.approx((-20 * np.log10(0.2) + EXACT_DB) / 2, abs=1e-3)
    assert "floor/training_colour_psnr" not in floors(images, (8, 8), engine())


def test_as_many_pixels_as_the_image_has_are_the_image() -> None:
    assert floors(halves(51, 102), (8, 8), engine())["floor/bicubic_psnr"] == EXACT_DB


def test_a_thumbnail_is_pillows(photograph: Callable[[str, int], NDArray[np.uint8]]) -> None:
    pixels = photograph("chelsea", 64)
    channels = [Image.fromarray(pixels[..., index].astype(np.float32) / 255) for index in range(3)]
    small = [one.resize((16, 16), Image.Resampling.BICUBIC) for one in channels]
    expected = torch.from_numpy(np.stack([np.asarray(one).clip(0, 1) for one in small]))
    found = torch.nn.functional.interpolate(from_stored(torch.from_numpy(pixels.copy())[None]), size=(16, 16),
                                            mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(found[0], expected, atol=1e-5, rtol=0)


def test_more_locations_give_a_better_thumbnail(photograph: Callable[[str, int], NDArray[np.uint8]]) -> None:
    crops = torch.from_numpy(np.stack([photograph(name, 64) for name in ("chelsea", "coffee")]))
    found = [floors(crops, (side, side), engine())["floor/bicubic_psnr"] for side in (1, 4, 16, 32, 64)]
    assert found == sorted(found)
    own = floors(crops, (1, 1), engine())
    assert own["floor/bicubic_psnr"] <= own["floor/mean_colour_psnr"] < found[1]


def test_thumbnails_stay_in_the_range_and_may_be_oblong() -> None:
    images = from_stored(halves(0, 255))
    made = through_thumbnail(images, (4, 3))
    assert made.shape == images.shape
    assert made.min() >= 0
    assert made.max() <= 1


def test_in_the_published_protocol_floors_are_of_its_targets() -> None:
    grey = halves(250, 255)  # normalised above 1, and clipped to it
    assert floors(grey, (8, 8), engine("published"))["floor/mean_colour_psnr"] == EXACT_DB
    assert floors(grey, (8, 8), engine())["floor/mean_colour_psnr"] < 50
