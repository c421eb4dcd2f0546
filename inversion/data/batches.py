"""Batches of square crops of stored pixels.

All batches are stored pixels, ``uint8 (B, S, S, 3)``: a quarter of the bytes of float32 to copy to the device, where
``inversion.images.from_stored`` converts them to images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from inversion.seeds import generator

_DRAW = 2**40  # modulo at most a few thousand positions: the bias is below 1e-8

Pixels = TypeVar("Pixels", NDArray[np.uint8], torch.Tensor)


class TrainBatches:
    """Random crops and horizontal flips in random order; each photograph ``crops_per_image`` times an epoch.

    All random numbers of an epoch are drawn before its first batch, from generators seeded with the run's seed and the
    epoch. So batch ``k`` is the same whether the epoch starts at 0 or, after an interruption, at ``k``.
    """

    def __init__(
        self,
        pixels: Sequence[NDArray[np.uint8]],
        image_size: int,
        batch_size: int,
        crops_per_image: int,
        seed: int,
    ) -> None:
        """Args:
            pixels: stored photographs, ``uint8 (H, W, 3)`` each, no side shorter than ``image_size``.
            image_size: side of the crops, in pixels.
            batch_size: crops in a batch; the last one of an epoch may be smaller.
            crops_per_image: crops of each photograph per epoch.
            seed: the run's seed.
        """
        self._pixels = pixels
        self._moved: list[torch.Tensor] = []
        self._image_size = image_size
        self._batch_size = batch_size
        self._crops_per_image = crops_per_image
        self._seed = seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self._crops() / self._batch_size)

    def move_to(self, device: torch.device) -> None:
        """Copies all photographs to a device, where the crops are then made without further copies."""
        self._moved = [torch.tensor(photo, device=device) for photo in self._pixels]

    @property
    def size(self) -> int:
        """Size of all photographs in bytes."""
        return sum(photo.nbytes for photo in self._pixels)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[torch.Tensor]:
        """The batches of an epoch from batch ``start`` on: ``uint8 (B, S, S, 3)``, on the device of the photographs."""
        crops = self._crops()
        order = torch.randperm(crops, generator=generator(self._seed, "order", epoch)).tolist()
        corners = torch.randint(_DRAW, (crops, 2), generator=generator(self._seed, "crops", epoch)).tolist()
        mirrored = torch.randint(2, (crops,), generator=generator(self._seed, "flips", epoch)).tolist()
        for first in range(start * self._batch_size, crops, self._batch_size):
            places = range(first, min(first + self._batch_size, crops))
            batch = self._cut([order[place] // self._crops_per_image for place in places],
                              [corners[place] for place in places])
            for row, place in zip(batch, places, strict=True):
                if mirrored[place]:
                    row.copy_(row.flip(1))  # 20 times faster than a reversed copy by NumPy
            yield batch

    def _cut(self, photos: Sequence[int], corners: Sequence[list[int]]) -> torch.Tensor:
        if self._moved:
            return torch.stack([self._crop(self._moved[photo], corner)
                                for photo, corner in zip(photos, corners, strict=True)])
        batch = _empty(len(photos), self._image_size)
        for row, photo, corner in zip(batch.numpy(), photos, corners, strict=True):
            row[:] = self._crop(self._pixels[photo], corner)
        return batch

    def _crops(self) -> int:
        return len(self._pixels) * self._crops_per_image

    def _crop(self, photo: Pixels, corner: list[int]) -> Pixels:
        size = self._image_size
        top, left = (draw % (side - size + 1) for draw, side in zip(corner, photo.shape[:2], strict=True))
        return photo[top : top + size, left : left + size]


def center_crops(pixels: Sequence[NDArray[np.uint8]], image_size: int) -> torch.Tensor:
    """The centre crop of each stored photograph ``uint8 (H, W, 3)``, as by torchvision's ``CenterCrop``.

    Returns:
        ``uint8 (N, S, S, 3)``.
    """
    crops = _empty(len(pixels), image_size)
    for row, photo in zip(crops.numpy(), pixels, strict=True):
        top, left = (round((side - image_size) / 2) for side in photo.shape[:2])
        row[:] = photo[top : top + image_size, left : left + image_size]
    return crops


def _empty(count: int, size: int) -> torch.Tensor:
    return torch.empty(count, size, size, 3, dtype=torch.uint8)
