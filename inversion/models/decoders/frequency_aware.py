"""Predicts block-DCT coefficients, in two branches for low and high frequencies, and applies an inverse DCT.

Ahmed, Natarajan and Rao, "Discrete Cosine Transform", IEEE Trans. Computers C-23(1), 1974; blocks of 8×8 as in JPEG
(ITU-T T.81). The few low-frequency coefficients describe the layout and need context; the many high-frequency ones
are local detail.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, clamp_to_image, decoders
from inversion.models.decoders._layers import COLOURS, halved, resize_to, start_near_zero, trunk, upsampling_stage
from inversion.models.decoders._options import FrequencyAwareOptions
from inversion.models.decoders._published import PublishedFrequencyAware


@decoders.register("frequency_aware")
class FrequencyAwareDecoder(Decoder):
    """A shared trunk, then one branch for low and one for high frequencies, with one position per DCT block.

    ::

        features (B, C, h, w)
          → depth × [Conv2d(3×3) → BatchNorm → ReLU]              (B, W, h, w), W = width, or max(C / 2, 64)
          → upsampling stages, resize                             (B, W', p·g, p·g), g = S / block
          → low:  Conv2d(p×p, stride p) → BatchNorm → ReLU
                  → Conv2d(3×3)                                   (B, 3·L, g, g)
          → high: Conv2d(p×p, stride p)                           (B, 3·(block² − L), g, g)
          → × gains, inverse DCT of each block, + 0.5, clamp      (B, 3, S, S) in [0, 1]

    L is the number of coefficients below the cutoff, p the number of positions per side of a block. The gains are
    ``block / (1 + u + v)``, as the amplitudes in natural images fall with frequency.
    """

    OptionsType = FrequencyAwareOptions
    published = PublishedFrequencyAware

    def __init__(self, features: FeatureShape, image_size: int, options: FrequencyAwareOptions) -> None:
        super().__init__(features, image_size, options)
        self.block = int(options.block)
        order = frequency_order(self.block)
        self.low_count = sum(u + v < options.cutoff for u, v in order)
        gains = torch.tensor([self.block / (1.0 + u + v) for u, v in order])
        self.gains: Tensor
        self.register_buffer("gains", gains, persistent=False)
        self.inverse: Tensor
        self.register_buffer("inverse", inverse_dct_matrix(self.block), persistent=False)

        grid = image_size // self.block
        width = options.width or max(features.channels // 2, 64)
        self.trunk = trunk(features.channels, width, options.depth)
        self.to_grid, self.patch = _towards_grid(width, features, grid)
        width = self.to_grid.channels
        self.low = nn.Sequential(
            nn.Conv2d(width, 2 * width, kernel_size=self.patch, stride=self.patch, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            start_near_zero(nn.Conv2d(2 * width, COLOURS * self.low_count, kernel_size=3, padding=1)),
        )
        highs = COLOURS * (len(order) - self.low_count)
        self.high = start_near_zero(nn.Conv2d(width, highs, kernel_size=self.patch, stride=self.patch))

    def forward(self, features: Tensor) -> Tensor:
        values = self.to_grid(self.trunk(features))
        low, high = self.low(values).float(), self.high(values).float()
        coefficients = torch.cat([low.unflatten(1, (COLOURS, -1)), high.unflatten(1, (COLOURS, -1))], dim=2)
        coefficients = coefficients * self.gains.view(-1, 1, 1)
        pixels = inverse_block_dct(coefficients, self.inverse)
        return clamp_to_image(pixels + 0.5)


class _ToGrid(nn.Module):
    """Upsamples by factors of two, then resizes to ``size``, a multiple of the grid of blocks."""

    def __init__(self, channels: int, stages: int, size: int) -> None:
        super().__init__()
        self.size = size
        layers = []
        for _ in range(stages):
            layers.append(upsampling_stage(channels, halved(channels)))
            channels = halved(channels)
        self.stages = nn.Sequential(*layers)
        self.channels = channels

    def forward(self, values: Tensor) -> Tensor:
        return resize_to(self.stages(values), self.size)


def _towards_grid(channels: int, features: FeatureShape, grid: int) -> tuple[_ToGrid, int]:
    """The layers that bring features to the grid of blocks, and the number of their positions per side of a block."""
    smallest = min(features.height, features.width)
    stages = max(0, math.ceil(math.log2(grid / smallest)))
    patch = max(1, (smallest << stages) // grid)
    return _ToGrid(channels, stages, grid * patch), patch


def frequency_order(block: int) -> list[tuple[int, int]]:
    """The (vertical, horizontal) frequencies of a block, from low to high by their sum, similar to JPEG's zigzag."""
    return sorted(((u, v) for u in range(block) for v in range(block)), key=lambda pair: (pair[0] + pair[1], pair))


def inverse_dct_matrix(block: int) -> Tensor:
    """Orthonormal inverse DCT of a block: ``(block², block²)``, pixels (row by row) × frequencies (low to high)."""
    position = torch.arange(block, dtype=torch.float64)
    basis = torch.cos(math.pi / block * (position[:, None] + 0.5) * position[None, :]) * math.sqrt(2 / block)
    basis[:, 0] /= math.sqrt(2)
    columns = [torch.outer(basis[:, u], basis[:, v]).flatten() for u, v in frequency_order(block)]
    return torch.stack(columns, dim=1).float()


def inverse_block_dct(coefficients: Tensor, inverse: Tensor) -> Tensor:
    """Coefficients ``(B, 3, block², g, g)``, from low to high, to pixels ``(B, 3, g·block, g·block)``.

    Equal to ``scipy.fft.idctn(norm="ortho")`` of each block.
    """
    with torch.autocast(coefficients.device.type, enabled=False):
        pixels = torch.einsum("pf,bcfhw->bcphw", inverse, coefficients)
    return nn.functional.pixel_shuffle(pixels.flatten(1, 2), math.isqrt(inverse.shape[0]))
