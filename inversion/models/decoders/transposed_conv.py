"""Transposed convolutions that upsample by factors of two to the image's size: the simplest learned decoder.

Dosovitskiy and Brox, "Inverting Visual Representations with Convolutional Networks", CVPR 2016, section 3
(https://arxiv.org/abs/1506.02753), invert features with such a network.
"""

from __future__ import annotations

from torch import Tensor

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, decoders
from inversion.models.decoders._layers import UpsamplingHead
from inversion.models.decoders._options import TransposedConvOptions


@decoders.register("transposed_conv")
class TransposedConvDecoder(Decoder):
    """The upsampling head alone; 33,731 parameters for features 64×112×112.

    ::

        features (B, C, h, w)
          → K × [ConvTranspose2d(k=4, s=2, p=1) → BatchNorm → ReLU]    (B, C', 2^K·h, 2^K·w)
          → bilinear resize, if that is not S×S                        (B, C', S, S)
          → Conv2d(3×3) → sigmoid                                      (B, 3, S, S) in [0, 1]

    K = ⌈log2(S / min(h, w))⌉; each stage halves the channels, to no fewer than 32. The published study's decoder is the
    same.
    """

    OptionsType = TransposedConvOptions

    def __init__(self, features: FeatureShape, image_size: int, options: TransposedConvOptions) -> None:
        super().__init__(features, image_size, options)
        self.head = UpsamplingHead(features, image_size, options.width, options.depth)

    def forward(self, features: Tensor) -> Tensor:
        image: Tensor = self.head(features)
        return image
