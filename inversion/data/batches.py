"""Batches of square crops out of stored pixels.

Everything here is stored pixels, ``uint8 (B, S, S, 3)``; ``inversion.images.from_stored`` makes images of them on the
device that needs them, at a quarter of the bytes to move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from inversion.seeds import generator

_DRAW = 2**40  # taken modulo at most a few thousand positions: no position is favoured by more than one in 10⁸


class TrainBatches:
    """Random crops, half of them mirrored, in random order; every photograph ``crops_per_image`` times an epoch.

    All draws of an epoch are made before its first batch, from generators of the seed and the epoch: batch ``k`` is
    the same whether the epoch is begun at 0 or, after an interruption, at ``k``.
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
            crops_per_image: crops of each photograph in an epoch.
            seed: the run's seed.
        """
        self._pixels = pixels
        self._image_size = image_size
        self._batch_size = batch_size
        self._crops_per_image = crops_per_image
        self._seed = seed

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self._crops() / self._batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[torch.Tensor]:
        """The batches of an epoch from batch ``start`` on: ``uint8 (B, S, S, 3)``."""
        crops = self._crops()
        order = torch.randperm(crops, generator=generator(self._seed, "order", epoch)).tolist()
        corners = torch.randint(_DRAW, (crops, 2), generator=generator(self._seed, "crops", epoch)).tolist()
        mirrored = torch.randint(2, (crops,), generator=generator(self._seed, "flips", epoch)).tolist()
        for first in range(start * self._batch_size, crops, self._batch_size):
            places = range(first, min(first + self._batch_size, crops))
            batch = _empty(len(places), self._image_size)
            for row, place in zip(batch.numpy(), places, strict=True):
                photo = self._pixels[order[place] // self._crops_per_image]
                row[:] = self._crop(photo, corners[place], bool(mirrored[place]))
            yield batch

    def _crops(self) -> int:
        return len(self._pixels) * self._crops_per_image

    def _crop(self, photo: NDArray[np.uint8], corner: list[int], mirrored: bool) -> NDArray[np.uint8]:
        size = self._image_size
        top, left = (draw % (side - size + 1) for draw, side in zip(corner, photo.shape[:2], strict=True))
        crop = photo[top : top + size, left : left + size]
        return crop[:, ::-1] if mirrored else crop


def center_crops(pixels: Sequence[NDArray[np.uint8]], image_size: int) -> torch.Tensor:
    """The centre of each stored photograph ``uint8 (H, W, 3)``, as torchvision's ``CenterCrop`` finds it.

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
