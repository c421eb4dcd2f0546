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

FIXED_SEED = 0
"""The seed of fixed crops, which are the same for runs of every seed."""

_DRAW = 2**40  # modulo at most a few thousand positions: the bias is below 1e-8

Pixels = TypeVar("Pixels", NDArray[np.uint8], torch.Tensor)


class TrainBatches:
    """Crops and horizontal flips in random order; each photograph ``crops_per_image`` times an epoch.

    All random numbers of an epoch are drawn before its first batch, from generators seeded with the run's seed and the
    epoch. So batch ``k`` is the same whether the epoch starts at 0 or, after an interruption, at ``k``.

    With ``fixed`` crops, each photograph has that many crops and flips, the same for every seed and in every epoch,
    so that their features can be stored. They take turns from epoch to epoch; the seed decides which one is first.
    """

    def __init__(
        self,
        pixels: Sequence[NDArray[np.uint8]],
        image_size: int,
        batch_size: int,
        crops_per_image: int,
        seed: int,
        fixed: int = 0,
    ) -> None:
        """Args:
            pixels: stored photographs, ``uint8 (H, W, 3)`` each, no side shorter than ``image_size``.
            image_size: side of the crops, in pixels.
            batch_size: crops in a batch; the last one of an epoch may be smaller.
            crops_per_image: crops of each photograph per epoch.
            seed: the run's seed.
            fixed: fixed crops of each photograph; 0: drawn anew in every epoch.
        """
        self._pixels = pixels
        self._moved: list[torch.Tensor] = []
        self._image_size = image_size
        self.batch_size = batch_size
        self._crops_per_image = crops_per_image
        self._seed = seed
        self.fixed = fixed
        if fixed:
            self._corners, self._mirrored = _draw(len(pixels) * fixed, FIXED_SEED, 0)
            self._first = torch.randint(fixed, (len(pixels),), generator=generator(seed, "first fixed crops")).tolist()

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self._crops() / self.batch_size)

    def move_to(self, device: torch.device) -> None:
        """Copies all photographs to a device, where the crops are then made without further copies."""
        self._moved = [torch.tensor(photo, device=device) for photo in self._pixels]

    @property
    def size(self) -> int:
        """Size of all photographs in bytes."""
        return sum(photo.nbytes for photo in self._pixels)

    @property
    def fixed_crops(self) -> int:
        """Number of fixed crops of all photographs: those of the first one, then those of the second …"""
        return len(self._pixels) * self.fixed

    def epoch(self, epoch: int, start: int = 0) -> Iterator[torch.Tensor]:
        """The batches of an epoch from batch ``start`` on: ``uint8 (B, S, S, 3)``, on the device of the photographs."""
        if self.fixed:
            numbers = self.fixed_of(epoch)
            for first in range(start * self.batch_size, len(numbers), self.batch_size):
                yield self.cut_fixed(numbers[first:first + self.batch_size])
            return
        crops = self._crops()
        order = self._order(epoch)
        corners, mirrored = _draw(crops, self._seed, epoch)
        for first in range(start * self.batch_size, crops, self.batch_size):
            places = slice(first, first + self.batch_size)
            yield self._cut([sample // self._crops_per_image for sample in order[places]], corners[places],
                            mirrored[places])

    def fixed_of(self, epoch: int) -> list[int]:
        """The numbers of the fixed crops of an epoch, in the order of its batches."""
        turn = (epoch - 1) * self._crops_per_image
        numbers = []
        for sample in self._order(epoch):
            photo, again = divmod(sample, self._crops_per_image)
            numbers.append(photo * self.fixed + (self._first[photo] + turn + again) % self.fixed)
        return numbers

    def cut_fixed(self, numbers: Sequence[int]) -> torch.Tensor:
        """Fixed crops by their numbers: ``uint8 (len(numbers), S, S, 3)``."""
        return self._cut([number // self.fixed for number in numbers], [self._corners[number] for number in numbers],
                         [self._mirrored[number] for number in numbers])

    def _order(self, epoch: int) -> list[int]:
        order: list[int] = torch.randperm(self._crops(), generator=generator(self._seed, "order", epoch)).tolist()
        return order

    def _cut(self, photos: Sequence[int], corners: Sequence[list[int]], mirrored: Sequence[int]) -> torch.Tensor:
        if self._moved:
            batch = torch.stack([self._crop(self._moved[photo], corner)
                                 for photo, corner in zip(photos, corners, strict=True)])
        else:
            batch = _empty(len(photos), self._image_size)
            for row, photo, corner in zip(batch.numpy(), photos, corners, strict=True):
                row[:] = self._crop(self._pixels[photo], corner)
        for crop, flip in zip(batch, mirrored, strict=True):
            if flip:
                crop.copy_(crop.flip(1))  # 20 times faster than a reversed copy by NumPy
        return batch

    def _crops(self) -> int:
        return len(self._pixels) * self._crops_per_image

    def _crop(self, photo: Pixels, corner: list[int]) -> Pixels:
        size = self._image_size
        top, left = (draw % (side - size + 1) for draw, side in zip(corner, photo.shape[:2], strict=True))
        return photo[top : top + size, left : left + size]


def _draw(crops: int, seed: int, epoch: int) -> tuple[list[list[int]], list[int]]:
    """Random numbers for the corner of each crop, and 1 for each one that is mirrored."""
    corners = torch.randint(_DRAW, (crops, 2), generator=generator(seed, "crops", epoch)).tolist()
    return corners, torch.randint(2, (crops,), generator=generator(seed, "flips", epoch)).tolist()


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
