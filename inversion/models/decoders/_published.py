"""The decoders of the published study as its released code has them: ``decoder_options=design=published``.

Source: ``src/models.py`` of the repository
https://github.com/DanicaBlazanovic/CAP6415_F25_project_Input_Image_Reconstruction_from_Features (2025). Most of these
networks are larger than the project's own, and two promise more than they have: ``wavelet`` has no wavelet transform,
and ``frequency_aware`` no frequency transform. Both are convolutional networks with gates. They are here to judge the
study's conclusions on its own decoders; the parameter counts are those of its code (docs/protocols.md).

The released code fixes the number of upsampling stages by the size of the features; for other sizes, the maps here are
resized before the last layers.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models._layers import convolution_stage
from inversion.models.decoders import Decoder, Options
from inversion.models.decoders._layers import UpsamplingHead, doublings, resize_to

SUB_BANDS = 4
BAND_CHANNELS = 64
NARROWEST = 64
"""Channels below which the upsampling stages do not halve."""

BLOCKS = 4
MOST_HEADS = 8

_stage = partial(convolution_stage, bias=True)


class PublishedAttention(Decoder):
    """Four pre-norm transformer blocks with full attention and no position encoding, then the upsampling head.

    ::

        features (B, C, h, w)
          → tokens                                        (B, h·w, C)
          → 4 × [x + attention(LayerNorm), 8 heads;
                 x + MLP(LayerNorm), hidden 4·C]          (B, h·w, C)
          → UpsamplingHead                                (B, 3, S, S) in [0, 1]

    The time grows with the square of the number of tokens: at vgg16:block1 (12,544 tokens) the published study ran out
    of memory. PyTorch's fused attention needs memory linear in it, and gives the same values.
    """

    def __init__(self, features: FeatureShape, image_size: int, options: Options) -> None:
        super().__init__(features, image_size, options)
        self.blocks = nn.Sequential(*(_TransformerBlock(features.channels) for _ in range(BLOCKS)))
        self.head = UpsamplingHead(features, image_size)

    def forward(self, features: Tensor) -> Tensor:
        tokens = self.blocks(features.flatten(2).transpose(1, 2))
        image: Tensor = self.head(tokens.transpose(1, 2).unflatten(2, features.shape[-2:]))
        return image


class PublishedWavelet(Decoder):
    """Four "sub-bands" of 64 channels at the features' resolution, gated and refined, then residual upsampling.

    ::

        features (B, C, h, w)
          → 4 × [Conv2d(3×3) → BatchNorm → ReLU → Conv2d(3×3) → tanh]     (B, 256, h, w)
          → 2 × [channel gate → Conv2d(3×3) → BatchNorm → ReLU]           (B, 256, h, w)
          → 2 × [Conv2d(3×3) → BatchNorm → ReLU]                          (B, 128, h, w)
          → K × residual upsampling                                       (B, 64, S, S)
          → multi-scale refinement → colour enhancement → Conv2d → tanh   (B, 3, S, S) in [0, 1]
    """

    def __init__(self, features: FeatureShape, image_size: int, options: Options) -> None:
        super().__init__(features, image_size, options)
        whole = SUB_BANDS * BAND_CHANNELS
        self.bands = nn.ModuleList(nn.Sequential(
            *_stage(features.channels, 2 * BAND_CHANNELS),
            nn.Conv2d(2 * BAND_CHANNELS, BAND_CHANNELS, kernel_size=3, padding=1),
            nn.Tanh(),
        ) for _ in range(SUB_BANDS))
        self.fusion = nn.Sequential(*(
            nn.Sequential(_Gate(_channel_gate(whole, whole // SUB_BANDS)), *_stage(whole, whole)) for _ in range(2)))
        self.refine = nn.Sequential(*_stage(whole, whole // 2), *_stage(whole // 2, whole // 2))
        self.to_image = _ToImage(FeatureShape(whole // 2, features.height, features.width), image_size)

    def forward(self, features: Tensor) -> Tensor:
        bands = torch.cat([band(features) for band in self.bands], dim=1)
        image: Tensor = self.to_image(self.refine(self.fusion(bands)))
        return image


class PublishedFrequencyAware(Decoder):
    """A "low" and a "high" convolution of the same form, gated together, then residual upsampling.

    ::

        features (B, C, h, w)
          → 2 × [channel gate → location gate]                            (B, C, h, w)
          → low, high: Conv2d(3×3) → BatchNorm → ReLU, concatenated       (B, 2·(C / 2), h, w)
          → channel gate → location gate → Conv2d(1×1)                    (B, 2·(C / 2), h, w)
          → K × residual upsampling                                       (B, C', S, S)
          → multi-scale refinement → colour enhancement → Conv2d → tanh   (B, 3, S, S) in [0, 1]
    """

    def __init__(self, features: FeatureShape, image_size: int, options: Options) -> None:
        super().__init__(features, image_size, options)
        channels, half = features.channels, max(1, features.channels // 2)
        self.gates = nn.Sequential(*(
            nn.Sequential(_Gate(_channel_gate(channels, channels // 16)),
                          _Gate(nn.Sequential(nn.Conv2d(channels, 1, kernel_size=1), nn.Sigmoid())))
            for _ in range(2)))
        self.low = _stage(channels, half)
        self.high = _stage(channels, half)
        self.channel_gate = _Gate(_channel_gate(2 * half, half))
        self.location_gate = nn.Sequential(nn.Conv2d(2, 1, kernel_size=7, padding=3), nn.Sigmoid())
        self.mix = nn.Conv2d(2 * half, 2 * half, kernel_size=1)
        self.to_image = _ToImage(FeatureShape(2 * half, features.height, features.width), image_size)

    def forward(self, features: Tensor) -> Tensor:
        values = self.gates(features)
        values = self.channel_gate(torch.cat([self.low(values), self.high(values)], dim=1))
        statistics = torch.cat([values.mean(1, keepdim=True), values.amax(1, keepdim=True)], dim=1)
        image: Tensor = self.to_image(self.mix(values * self.location_gate(statistics)))
        return image


class _TransformerBlock(nn.Module):
    """Pre-norm transformer block on tokens ``(B, N, C)``, with full attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = math.gcd(width, MOST_HEADS)
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        projected = self.query_key_value(self.norm_attention(tokens)).chunk(3, dim=2)
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in projected)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.out(attended)
        result: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return result


class _ToImage(nn.Module):
    """Residual upsampling to the image's size, two refinements, and RGB: ``(B, C, h, w)`` → ``(B, 3, S, S)``."""

    def __init__(self, features: FeatureShape, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        channels, stages = features.channels, []
        for _ in range(doublings(features, image_size)):
            stages.append(_ResidualUpsampling(channels, max(channels // 2, NARROWEST)))
            channels = max(channels // 2, NARROWEST)
        self.stages = nn.Sequential(*stages)
        self.refinement = _MultiScaleRefinement(channels)
        self.colour = _ColourEnhancement(channels)
        self.to_rgb = nn.Conv2d(channels, 3, kernel_size=3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        values = self.colour(self.refinement(resize_to(self.stages(values), self.image_size)))
        rgb: Tensor = self.to_rgb(values)
        return (rgb.float().tanh() + 1) / 2


class _ResidualUpsampling(nn.Module):
    """Doubles height and width: transposed convolution and two convolutions, plus a bilinear path."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1),
            *_stage(outputs, outputs),
            nn.Conv2d(outputs, outputs, kernel_size=3, padding=1),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, kernel_size=1)

    def forward(self, values: Tensor) -> Tensor:
        # The 1×1 convolution commutes with the bilinear upsampling, and is a quarter of the work before it.
        shortcut = F.interpolate(self.shortcut(values), scale_factor=2, mode="bilinear", align_corners=False)
        return F.relu(self.main(values) + shortcut)


class _MultiScaleRefinement(nn.Module):
    """Adds a gated mix of 3×3, 5×5 and 7×7 convolutions, ``(B, C, H, W)`` → the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = max(1, channels // 4)
        self.scales = nn.ModuleList(nn.Conv2d(channels, quarter, kernel_size=size, padding=size // 2)
                                    for size in (3, 5, 7))
        self.gate = nn.Sequential(nn.Conv2d(3 * quarter, channels, kernel_size=1), nn.Sigmoid())
        self.mix = nn.Conv2d(3 * quarter, channels, kernel_size=1)

    def forward(self, values: Tensor) -> Tensor:
        scales = torch.cat([scale(values) for scale in self.scales], dim=1)
        result: Tensor = values + self.mix(scales) * self.gate(scales)
        return result


class _ColourEnhancement(nn.Module):
    """A gain of 1 to 2 for each value, then a residual path with instance normalisation; keeps the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Sequential(nn.Conv2d(channels, 64, kernel_size=1), nn.ReLU(inplace=True),
                                  nn.Conv2d(64, channels, kernel_size=1), nn.Sigmoid())
        self.refine = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.InstanceNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
        )

    def forward(self, values: Tensor) -> Tensor:
        values = values * (1 + self.gain(values))
        result: Tensor = values + self.refine(values)
        return result


class _Gate(nn.Module):
    """Multiplies values by a gate in (0, 1) that is computed from them."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, values: Tensor) -> Tensor:
        result: Tensor = values * self.gate(values)
        return result


def _channel_gate(channels: int, hidden: int) -> nn.Sequential:
    """One gate per channel from the means of all channels (squeeze and excitation, https://arxiv.org/abs/1709.01507)."""
    hidden = max(4, hidden)  # fewer, which features of a few channels would have, can all be dead from the start
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, kernel_size=1), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, channels, kernel_size=1), nn.Sigmoid())
