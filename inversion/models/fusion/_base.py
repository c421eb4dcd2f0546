"""The base class of fusions, which merge the feature maps of several encoders into one map for the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models.options import NO_OPTIONS, Options, design_of

FUSED_CHANNELS = 256


class Fusion(nn.Module):
    """Aligns the maps of E encoders in channels and size, then merges them into one map.

    ::

        E maps (B, Ci, hi, wi)
          → Conv2d(1×1), one per encoder            E × (B, 256, hi, wi)
          → bilinear resize to the largest map      E × (B, 256, H, W)
          → merge, by the derived class             (B, 256, H, W)

    The convolution comes before the resize: the result is the same, and it is cheaper. ``shapes`` are those of the
    maps, ``channels`` those of the aligned maps; ``fused`` is the shape of the result. ``OptionsType`` declares the
    options; ``published`` is the class for the option ``design=published``, if the fusion has that option.
    """

    OptionsType: ClassVar[type[Options]] = Options
    published: ClassVar[type[Fusion] | None] = None

    @classmethod
    def build(cls, shapes: Sequence[FeatureShape], options: Options) -> Fusion:
        """Builds the design that the options ask for."""
        return design_of(cls, cls.published, options)(shapes, options)

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
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
        """Merges the aligned maps, one ``(B, 256, H, W)`` per encoder, into one of the same shape."""
        raise NotImplementedError(f"{type(self).__name__} does not implement merge")


def weighted_sum(weights: Tensor, maps: Sequence[Tensor]) -> Tensor:
    """Σ wᵢ·mapᵢ, for weights ``(E, …)`` that broadcast against the maps ``(B, C, H, W)``."""
    total = weights[0] * maps[0]
    for weight, values in zip(weights[1:], maps[1:], strict=True):
        total = total + weight * values
    return total
