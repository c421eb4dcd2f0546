"""Weights per encoder and location, predicted from the maps; positive, with a sum of one at each location."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.fusion import FUSED_CHANNELS, Fusion, fusions, weighted_sum
from inversion.models.fusion._published import PublishedAttention
from inversion.models.options import NO_OPTIONS, DesignOptions, Options


@fusions.register("attention")
class AttentionFusion(Fusion):
    """Weighted sum by a softmax over encoders at each location.

    ::

        E aligned maps (B, 256, H, W)
          → Conv2d(1×1), one per encoder            scores (E, B, 1, H, W)
          → softmax over E                          weights (E, B, 1, H, W)
          → weighted sum of the maps                (B, 256, H, W)
    """

    OptionsType = DesignOptions
    published = PublishedAttention

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.score = nn.ModuleList(nn.Conv2d(channels, 1, kernel_size=1) for _ in shapes)

    def merge(self, aligned: list[Tensor]) -> Tensor:
        scores = [score(values) for score, values in zip(self.score, aligned, strict=True)]
        return weighted_sum(torch.stack(scores).softmax(0), aligned)
