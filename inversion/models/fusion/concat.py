"""Concatenation of the channels, then a 1×1 convolution back to the number of one map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inversion.models import FeatureShape
from inversion.models._layers import convolution_stage
from inversion.models.fusion import FUSED_CHANNELS, Fusion, fusions
from inversion.models.fusion._published import PublishedConcat
from inversion.models.options import NO_OPTIONS, DesignOptions, Options


@fusions.register("concat")
class ConcatFusion(Fusion):
    """Concatenation and a learned mix of channels.

    ::

        E aligned maps (B, 256, H, W)
          → concatenate channels                    (B, E·256, H, W)
          → Conv2d(1×1) → BatchNorm → ReLU          (B, 256, H, W)
    """

    OptionsType = DesignOptions
    published = PublishedConcat

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.mix = convolution_stage(len(shapes) * channels, channels, kernel=1)

    def merge(self, aligned: list[Tensor]) -> Tensor:
        fused: Tensor = self.mix(torch.cat(aligned, dim=1))
        return fused
