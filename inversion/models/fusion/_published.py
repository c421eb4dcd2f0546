"""The fusions of the published study as its released code has them: ``fusion_options=design=published``.

Source: as for the decoders in ``models/decoders/_published.py``. Each encoder's map is aligned by Conv2d(1×1) →
BatchNorm → ReLU, and the result refined by 3×3 convolutions. ``attention`` has one weight per encoder and image, the
same at all locations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models._layers import convolution_stage
from inversion.models.fusion import FUSED_CHANNELS, Fusion, weighted_sum
from inversion.models.options import NO_OPTIONS, Options

_stage = partial(convolution_stage, bias=True)


class _PublishedFusion(Fusion):
    """Aligns with BatchNorm and ReLU: the maps that are merged are positive and of equal scale."""

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.align = nn.ModuleList(_stage(shape.channels, channels, kernel=1) for shape in shapes)


class PublishedWeighted(_PublishedFusion):
    """Σ wᵢ·mapᵢ by a softmax of one logit per encoder, then one 3×3 convolution → BatchNorm → ReLU."""

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.logits = nn.Parameter(torch.ones(len(shapes)))
        self.refine = _stage(channels, channels)

    def merge(self, aligned: list[Tensor]) -> Tensor:
        refined: Tensor = self.refine(weighted_sum(self.logits.softmax(0), aligned))
        return refined


class PublishedAttention(_PublishedFusion):
    """Weights per image and encoder, from the means of all channels, then two 3×3 convolutions."""

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.weights = nn.Sequential(
            nn.Linear(len(shapes) * channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, len(shapes)),
            nn.Softmax(dim=1))
        self.refine = nn.Sequential(*_stage(channels, channels), *_stage(channels, channels))

    def merge(self, aligned: list[Tensor]) -> Tensor:
        means = torch.cat([values.mean((2, 3)) for values in aligned], dim=1)
        weights = self.weights(means).T[:, :, None, None, None]  # (E, B, 1, 1, 1)
        refined: Tensor = self.refine(weighted_sum(weights, aligned))
        return refined


class PublishedConcat(_PublishedFusion):
    """The stacked maps through two 3×3 convolutions, to twice the channels of one map and then to those of one."""

    def __init__(self, shapes: Sequence[FeatureShape], options: Options = NO_OPTIONS, channels: int = FUSED_CHANNELS,
                 ) -> None:
        super().__init__(shapes, options, channels)
        self.mix = nn.Sequential(*_stage(len(shapes) * channels, 2 * channels), *_stage(2 * channels, channels))

    def merge(self, aligned: list[Tensor]) -> Tensor:
        fused: Tensor = self.mix(torch.cat(aligned, dim=1))
        return fused
