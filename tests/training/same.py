"""What two trainings came to, compared."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

TIMES_AND_MEMORY = {"seconds_in_epoch", "train_seconds", "validation_seconds", "peak_memory_mb", "images_per_second"}


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Equal to the bit, but for what a clock or the memory says."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one.keys() - TIMES_AND_MEMORY:
            assert_same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}/{index}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), place
    else:
        assert one == other, place
