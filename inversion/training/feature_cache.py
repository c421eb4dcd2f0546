"""What of fixed crops does not depend on the decoder is computed once, and kept as long as there is room."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import psutil
import torch
from torch import Tensor

KEPT_BYTES = 384 * 2**20
"""Features and LPIPS levels of 160 validation images at any of the study's layers, but at vgg16:block1 of most."""

SHARE = 20
"""Of the memory that is free when the first is kept, no more than one part in so many: training needs the rest."""


class FeatureCache:
    """Tensors by a key; what has no room is made anew each time, which gives the same to the bit.

    Without ``room`` (bytes) it is ``KEPT_BYTES``, or less where memory is short.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self._tensors: dict[Hashable, list[Tensor]] = {}

    def get(self, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """What ``make()`` gives, made only if it is not kept; the key says all that it depends on."""
        found = self._tensors.get(key)
        if found is None:
            found = make()
            if self.room is None:
                self.room = min(KEPT_BYTES, free_bytes(found[0].device) // SHARE)
            size = sum(tensor.numel() * tensor.element_size() for tensor in found)
            if size <= self.room:
                self.room -= size
                self._tensors[key] = found
        return found


def free_bytes(device: torch.device) -> int:
    """Memory of a device that nobody uses."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available: int = psutil.virtual_memory().available
    return available
