"""What a fusion is: feature maps of several encoders to one map that a decoder can invert."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape

FUSED_CHANNELS = 256


class Fusion(nn.Module):
    """Aligns maps ``(B, Ci, hi, wi)`` to ``(B, 256, H, W)`` of the largest one, then merges them into one such map.

    A 1×1 convolution an encoder aligns the channels, at the map's own size; bilinear resizing comes after it, which
    gives the same numbers as before it and costs less.
    """

    def __init__(self, shapes: Sequence[FeatureShape], channels: int = FUSED_CHANNELS) -> None:
        super().__init__()
        largest = max(shapes, key=lambda shape: shape.spatial_positions)
        self.fused = FeatureShape(channels, largest.height, largest.width)
        self.align = nn.ModuleList(nn.Conv2d(shape.channels, channels, kernel_size=1) for shape in shapes)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        size = (self.fused.height, self.fused.width)
        aligned = [align(values) for align, values in zip(self.align, features, strict=True)]
        return self.merge([
            values if values.shape[-2:] == size
            else F.interpolate(values, size=size, mode="bilinear", align_corners=False)
            for values in aligned
        ])

    def merge(self, aligned: list[Tensor]) -> Tensor:
        """One map ``(B, 256, H, W)`` from maps of that shape, one an encoder."""
        raise TypeError(f"{type(self).__name__} must say how it merges")


def weighted_sum(weights: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Σ wᵢ·mapᵢ, for weights ``(E, …)`` that broadcast against the maps ``(B, C, H, W)``."""
    total = weights[0] * maps[0]
    for weight, values in zip(weights[1:], maps[1:], strict=True):
        total = total + weight * values
    return total
