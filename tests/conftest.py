"""What tests of several packages share: photographs, frozen encoders built once, LPIPS without downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inversion.data.sample import photo_set
from inversion.encoders import parse_encoders, parse_weights
from inversion.encoders.build import Encoder, build_encoder
from inversion.losses import LPIPS


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Tests that resolve a configuration set PyTorch's threads; each test begins with two."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def photograph() -> Callable[[str, int], NDArray[np.uint8]]:
    """``photograph("astronaut", 64)``: a photograph inside scikit-image, as a square ``uint8 (S, S, 3)``."""
    paths = {photo.path.stem: photo.path for split in photo_set().splits.values() for photo in split}

    @cache
    def load(name: str, size: int) -> NDArray[np.uint8]:
        with Image.open(paths[name]) as image:
            return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, reducing_gap=3.0))

    return load


@pytest.fixture(scope="session")
def frozen() -> Callable[..., Encoder]:
    """``frozen("vgg16:block1", 64)``: an encoder with random weights, built once; nothing can change it."""

    @cache
    def build(text: str, image_size: int = 64) -> Encoder:
        cut, = parse_encoders(text)
        return build_encoder(cut, parse_weights("random", [cut])[cut.encoder], image_size)

    return build


@pytest.fixture(scope="session")
def random_trunk() -> dict[str, torch.Tensor]:
    """Random weights of AlexNet's convolutions, in torchvision's naming."""
    chance = torch.Generator().manual_seed(3)
    shapes = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}
    trunk = {}
    for index, shape in shapes.items():
        fan_in = shape[1] * shape[2] * shape[3]
        trunk[f"features.{index}.weight"] = torch.randn(shape, generator=chance) * (2 / fan_in) ** 0.5
        trunk[f"features.{index}.bias"] = torch.randn(shape[0], generator=chance) * 0.1
    return trunk


@pytest.fixture(scope="session")
def random_lpips(random_trunk: dict[str, torch.Tensor]) -> LPIPS:
    """LPIPS with a random trunk; it is frozen, so tests can share it."""
    return LPIPS(random_trunk, "random trunk")
