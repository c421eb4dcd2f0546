"""Encoders from files of weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inversion.errors import WeightsError
from inversion.models.encoders import EncoderCut, parse_weights
from inversion.models.encoders.build import build_encoder

VGG = EncoderCut("vgg16", "block1")

State = dict[str, Tensor]


def vgg(seed: int = 0, prefix: str = "", change: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> State:
    """What vgg16:block1 needs, random."""
    chance = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (64, 3, 3, 3), "0.bias": (64,), "2.weight": (64, 64, 3, 3), "2.bias": (64,)}
    return {f"{prefix}features.{name}": change(torch.randn(shape, generator=chance)) for name, shape in shapes.items()}


def built(path: Path | str) -> State:
    """What ``weights=PATH`` builds."""
    return build_encoder(VGG, parse_weights(str(path), [VGG])["vgg16"], 32).trunk_state()


def refused(path: Path | str) -> str:
    """The one line that ``weights=PATH`` ends with."""
    with pytest.raises(WeightsError) as error:
        built(path)
    line = str(error.value)
    assert "\n" not in line
    assert str(path).partition("#")[0] in line
    return line


def same(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
