"""A whole picture by overlapping tiles, blended without seams.

Along each axis, tiles of equal overlap cover the picture. Where a tile begins inside what is there already, it is faded
in over the overlap::

    there ──────────────╲
                         ╲    result = there + w · (tile - there),   0 < w < 1, rising along the overlap
    tile               ╱──────────

The weights of all tiles at a pixel are ``w`` and ``1 - w``, nested: they sum to exactly 1, and where the tiles agree
the result is what they agree on, to the last bit. Only one row of tiles is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

OVERLAP = 4
"""Tiles overlap by at least one part in so many of their side: decoders are worst at the borders."""


def tile_starts(length: int, tile: int) -> list[int]:
    """First pixels of the tiles that cover ``length`` pixels, evenly spread; ``length`` is ``tile`` at least."""
    stride = tile - tile // OVERLAP
    count = math.ceil((length - tile) / stride) + 1
    return [round(index * (length - tile) / max(1, count - 1)) for index in range(count)]


def tile_count(height: int, width: int, tile: int) -> int:
    """How many tiles a picture of this size is cut into."""
    return len(tile_starts(max(height, tile), tile)) * len(tile_starts(max(width, tile), tile))


def reconstruct_in_tiles(pixels: NDArray[np.uint8], tile: int, to_images: Callable[[Tensor], Tensor],
                         reconstruct: Callable[[Tensor], Tensor]) -> Tensor:
    """The reconstruction ``(3, H, W)`` of a picture ``uint8 (H, W, 3)`` of any size.

    A side shorter than a tile is continued by its mirror image, which is cut off again.

    Args:
        pixels: stored pixels of the picture.
        tile: side of the tiles, in pixels.
        to_images: stored pixels ``uint8 (N, tile, tile, 3)`` to images ``(N, 3, tile, tile)``.
        reconstruct: images to reconstructions of the same shape, on the CPU.
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
    """Images ``(3, H, W)`` joined along one dimension (1 or 2), in the order of their places."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.parts: list[Tensor] = []
        self.length = 0

    def add(self, image: Tensor, start: int) -> None:
        """Joins an image that begins at ``start``, which is not before the last one's, nor behind the end so far."""
        overlap = self.length - start
        if overlap > 0:
            there, image = self._take(overlap), image.clone()
            faded = image.narrow(self.dim, 0, overlap)
            faded.copy_(there + self._rising(overlap).to(there) * (faded - there))
        self.parts.append(image)
        self.length = start + image.shape[self.dim]

    def result(self) -> Tensor:
        """All that was joined."""
        return torch.cat(self.parts, self.dim)

    def _take(self, overlap: int) -> Tensor:
        """The last ``overlap`` pixels so far, taken off: more than the last part where three images overlap."""
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

    def _rising(self, overlap: int) -> Tensor:
        """The weights of what comes, ``1/(overlap + 1)`` to ``overlap/(overlap + 1)``, along the dimension."""
        weights = torch.arange(1, overlap + 1) / (overlap + 1)
        return weights.view((1, 1, -1) if self.dim == 2 else (1, -1, 1))
