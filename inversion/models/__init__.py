"""Encoders, fusions, decoders, the model that combines them, and its export. May import ``data`` and the leaves.

This package and the packages ``encoders``, ``fusion`` and ``decoders`` can be imported without PyTorch.
"""

from __future__ import annotations

from typing import NamedTuple


class FeatureShape(NamedTuple):
    """Channels, height and width of a feature map ``(B, C, H, W)``."""

    channels: int
    height: int
    width: int

    @property
    def spatial_positions(self) -> int:
        """``height · width``: 12,544 for a 112×112 map."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.channels}×{self.height}×{self.width}"
