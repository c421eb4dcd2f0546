"""Residual blocks and pixel shuffle: what a network without normalisation gets out of the features.

Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution" (EDSR), CVPR workshops 2017
(https://arxiv.org/abs/1707.02921), section 3.1: residual blocks without BatchNorm. Shi et al., "Real-Time Single Image
and Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", CVPR 2016
(https://arxiv.org/abs/1609.05158): upsampling by pixel shuffle.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, clamp_to_image, decoders
from inversion.models.decoders._layers import COLOURS, doublings, resize_to, start_near_zero
from inversion.models.decoders._options import ResidualOptions

NARROWEST, WIDEST = 64, 256


@decoders.register("residual")
class ResidualDecoder(Decoder):
    """Works at the features' resolution and doubles it by sub-pixel convolutions; without normalisation layers.

    ::

        features (B, C, h, w)
          → Conv2d(3×3)                                               (B, W, h, w), W = width, or C within 64 to 256
          → depth × [x + Conv2d(3×3)(ReLU(Conv2d(3×3)(x)))]           (B, W, h, w)
          → (K − 1) × [Conv2d(3×3) → pixel shuffle → depth × block]   (B, W', 2^(K−1)·h, 2^(K−1)·w)
          → Conv2d(3×3) → pixel shuffle                               (B, 3, 2^K·h, 2^K·w)
          → bilinear resize, if that is not S×S; clamp                (B, 3, S, S) in [0, 1]

    K = ⌈log2(S / min(h, w))⌉; for K = 0 nothing is shuffled. Each doubling halves the channels, to no fewer than 64 (or
    ``width``, if that is less).
    """

    OptionsType = ResidualOptions

    def __init__(self, features: FeatureShape, image_size: int, options: ResidualOptions) -> None:
        super().__init__(features, image_size, options)
        count = doublings(features, image_size)
        width = options.width or min(max(features.channels, NARROWEST), WIDEST)
        stages: list[nn.Module] = [nn.Conv2d(features.channels, width, kernel_size=3, padding=1)]
        stages += [ResidualBlock(width) for _ in range(options.depth)]
        for _ in range(count - 1):
            narrower = max(width // 2, min(width, NARROWEST))
            stages.append(PixelShuffleStage(width, narrower))
            stages += [ResidualBlock(narrower) for _ in range(options.depth)]
            width = narrower
        self.stages = nn.Sequential(*stages)
        self.factor = 2 if count else 1
        self.to_rgb = start_near_zero(nn.Conv2d(width, COLOURS * self.factor**2, kernel_size=3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        pixels = self.to_rgb(self.stages(features)).float() + 0.5  # training starts from mid-grey
        return clamp_to_image(resize_to(F.pixel_shuffle(pixels, self.factor), self.image_size))


class ResidualBlock(nn.Module):
    """``x + Conv2d(3×3)(ReLU(Conv2d(3×3)(x)))``, ``(B, C, h, w)`` → the same; close to the identity at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.second = start_near_zero(nn.Conv2d(channels, channels, kernel_size=3, padding=1))

    def forward(self, values: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(values), inplace=True))
        return values + change


class PixelShuffleStage(nn.Sequential):
    """Doubles height and width: Conv2d(3×3) → pixel shuffle, ``(B, C, h, w)`` → ``(B, C', 2h, 2w)``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.Conv2d(inputs, 4 * outputs, kernel_size=3, padding=1), nn.PixelShuffle(2))
