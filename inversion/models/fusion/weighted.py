"""One learned scalar weight an encoder, positive and summing to one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.fusion import FUSED_CHANNELS, Fusion, fusions, weighted_sum


@fusions.register("weighted")
class WeightedFusion(Fusion):
    """Softmax of a learned logit an encoder; all encoders weigh the same at the start."""

    def __init__(self, shapes: Sequence[FeatureShape], channels: int = FUSED_CHANNELS) -> None:
        super().__init__(shapes, channels)
        self.logits = nn.Parameter(torch.zeros(len(shapes)))

    def merge(self, aligned: list[Tensor]) -> Tensor:
        return weighted_sum(self.logits.softmax(0), aligned)
