"""Reconstructing a whole picture in overlapping tiles that are blended without seams.

Along each axis, tiles with equal overlaps cover the picture. Over its overlap with the tiles before it, a tile is
blended linearly into the result so far::

    result ─────────────╲
                         ╲    result + w · (tile - result),   0 < w < 1, increasing along the overlap
    tile               ╱──────────

The weights at a pixel sum to exactly 1, and where the tiles are equal, the result is bit-identical to them. Only one
row of tiles is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OVERLAP = 4
"""Tiles overlap by at least 1/4 of their side, because decoders are worst at the borders."""


def tile_starts(length: int, tile: int) -> list[int]:
    """First pixels of evenly spaced tiles that cover ``length`` pixels; ``length`` must be at least ``tile``."""
    stride = tile - tile // OVERLAP
    count = math.ceil((length - tile) / stride) + 1
    return [round(index * (length - tile) / max(1, count - 1)) for index in range(count)]


def tile_count(height: int, width: int, tile: int) -> int:
    """The number of tiles of a picture of this size."""
    return len(tile_starts(max(height, tile), tile)) * len(tile_starts(max(width, tile), tile))


def reconstruct_in_tiles(pixels: NDArray[np.uint8], tile: int, to_images: Callable[[Tensor], Tensor],
                         reconstruct: Callable[[Tensor], Tensor]) -> Tensor:
    """The reconstruction ``(3, H, W)`` of a picture ``uint8 (H, W, 3)`` of any size.

    A picture with a side shorter than a tile is padded symmetrically, and the padding is cut off again.

    Args:
        pixels: the picture.
        tile: side of the tiles, in pixels.
        to_images: converts stored pixels ``uint8 (N, tile, tile, 3)`` to images ``(N, 3, tile, tile)``.
        reconstruct: reconstructs images; the result has the same shape and is on the CPU.
    """
    height, width = pixels.shape[:2]
    padding = [(missing // 2, missing - missing // 2) for missing in (max(0, tile - height), max(0, tile - width))]
    padded = torch.from_numpy(np.pad(pixels, [*padding, (0, 0)], mode="symmetric"))
    lefts = tile_starts(padded.shape[1], tile)
    blended = Blend(dim=1)
    for top in tile_starts(padded.shape[0], tile):
        band = padded[top : top + tile]
        tiles = reconstruct(to_images(torch.stack([band[:, left : left + tile] for left in lefts])))
        row = Blend(dim=2)
        for left, image in zip(lefts, tiles, strict=True):
            row.add(image, left)
        blended.add(row.result(), top)
    top, left = padding[0][0], padding[1][0]
    return blended.result()[:, top : top + height, left : left + width].contiguous()


class Blend:
    """Joins overlapping images ``(3, H, W)`` along one dimension (1 or 2), in the order of their positions."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.parts: list[Tensor] = []
        self.length = 0

    def add(self, image: Tensor, start: int) -> None:
        """Adds an image at ``start``: not before the start of the last image, and not after the end of the result."""
        overlap = self.length - start
        if overlap > 0:
            before, image = self._take(overlap), image.clone()
            blended = image.narrow(self.dim, 0, overlap)
            blended.copy_(before + self._weights(overlap).to(before) * (blended - before))
        self.parts.append(image)
        self.length = start + image.shape[self.dim]

    def result(self) -> Tensor:
        """The joined image."""
        return torch.cat(self.parts, self.dim)

    def _take(self, overlap: int) -> Tensor:
        """Removes and returns the last ``overlap`` pixels; they span several parts where three images overlap."""
        taken: list[Tensor] = []
        while overlap:
            last = self.parts.pop()
            length = last.shape[self.dim]
            if length > overlap:
                self.parts.append(last.narrow(self.dim, 0, length - overlap))
                last = last.narrow(self.dim, length - overlap, overlap)
            overlap -= last.shape[self.dim]
            taken.insert(0, last)
        return torch.cat(taken, self.dim)

    def _weights(self, overlap: int) -> Tensor:
        """The weights of the new image along the dimension, ``1/(overlap + 1)`` to ``overlap/(overlap + 1)``."""
        weights = torch.arange(1, overlap + 1) / (overlap + 1)
        return weights.view((1, 1, -1) if self.dim == 2 else (1, -1, 1))
