"""Learned weights an encoder at each location, positive and summing to one there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.fusion import FUSED_CHANNELS, Fusion, fusions, weighted_sum


@fusions.register("attention")
class AttentionFusion(Fusion):
    """A 1×1 convolution scores each encoder's map at each location; a softmax over the encoders weighs them."""

    def __init__(self, shapes: Sequence[FeatureShape], channels: int = FUSED_CHANNELS) -> None:
        super().__init__(shapes, channels)
        self.score = nn.ModuleList(nn.Conv2d(channels, 1, kernel_size=1) for _ in shapes)

    def merge(self, aligned: list[Tensor]) -> Tensor:
        scores = [score(values) for score, values in zip(self.score, aligned, strict=True)]
        return weighted_sum(torch.stack(scores).softmax(0), aligned)
