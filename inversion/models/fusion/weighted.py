"""One learned scalar weight per encoder; the weights are positive and sum to one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.fusion import FUSED_CHANNELS, Fusion, fusions, weighted_sum
from inversion.models.fusion._published import PublishedWeighted
from inversion.models.options import NO_OPTIONS, DesignOptions, Options


@fusions.register("weighted")
class WeightedFusion(Fusion):
    """Weighted sum by a softmax of one learned logit per encoder; the weights start equal.

    ::

        E aligned maps (B, 256, H, W)
          → softmax of the logits                   weights (E,)
          → weighted sum of the maps                (B, 256, H, W)
    """

    OptionsType = DesignOptions
    published = PublishedWeighted

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.logits = nn.Parameter(torch.zeros(len(shapes)))

    def merge(self, aligned: list[Tensor]) -> Tensor:
        return weighted_sum(self.logits.softmax(0), aligned)
