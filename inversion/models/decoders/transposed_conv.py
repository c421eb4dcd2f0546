"""Transposed convolutions that double the map until it has the image's size: the plainest learned decoder.

Dosovitskiy and Brox, "Inverting Visual Representations with Convolutional Networks", CVPR 2016, section 3
(https://arxiv.org/abs/1506.02753), invert features with such a network.
"""

from __future__ import annotations

from torch import Tensor

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, Options, decoders
from inversion.models.decoders._layers import UpsamplingHead


@decoders.register("transposed_conv")
class TransposedConvDecoder(Decoder):
    """Stages of ConvTranspose2d → BatchNorm → ReLU, then Conv2d → sigmoid; 33,731 parameters for 64×112×112."""

    def __init__(self, features: FeatureShape, image_size: int, options: Options) -> None:
        super().__init__(features, image_size, options)
        self.head = UpsamplingHead(features, image_size)

    def forward(self, features: Tensor) -> Tensor:
        image: Tensor = self.head(features)
        return image
