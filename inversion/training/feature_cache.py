"""A cache for features of fixed crops, which do not depend on the decoder."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import psutil
import torch
from torch import Tensor

KEPT_BYTES = 384 * 2**20
"""Enough for the features and LPIPS levels of 160 validation images at any of the study's layers but vgg16:block1."""

SHARE = 20
"""The cache takes at most 1/20 of the memory that is free when it is first used: training needs the rest."""


class FeatureCache:
    """Tensors by key; those for which there is no room are computed each time, with bit-identical results.

    Args:
        room: bytes; by default ``KEPT_BYTES``, or less if memory is short.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self._tensors: dict[Hashable, list[Tensor]] = {}

    def get(self, key: Hashable, compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        """The tensors of a key, computed if they are not in the cache; the key must cover everything they depend on."""
        found = self._tensors.get(key)
        if found is None:
            found = compute()
            if self.room is None:
                self.room = min(KEPT_BYTES, free_bytes(found[0].device) // SHARE)
            size = sum(tensor.numel() * tensor.element_size() for tensor in found)
            if size <= self.room:
                self.room -= size
                self._tensors[key] = found
        return found


def free_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available: int = psutil.virtual_memory().available
    return available
