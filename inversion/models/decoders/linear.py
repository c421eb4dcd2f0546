"""A single linear map: the floor that every other decoder has to beat, since it has no nonlinearity to invert with.

Least-squares inversion of a representation, as Weinzaepfel, Jégou and Pérez ("Reconstructing an image from its local
descriptors", CVPR 2011) and Dosovitskiy and Brox (CVPR 2016, https://arxiv.org/abs/1506.02753) use simple decoders: to
tell what a representation holds from what a network makes of it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, clamp_to_image, decoders
from inversion.models.decoders._layers import COLOURS, resize_to, start_near_zero
from inversion.models.decoders._options import LinearOptions


@decoders.register("linear")
class LinearDecoder(Decoder):
    """One affine map from the 3×3 features around each place to its block of pixels: no nonlinearity but the clamp.

    ::

        features (B, C, h, w)
          → Conv2d(1×1) without bias, if a width is given      (B, W, h, w)
          → Conv2d(3×3), one output per pixel of a block       (B, 3·s², h, w), s = ⌈S / min(h, w)⌉
          → blocks side by side                                (B, 3, s·h, s·w)
          → bilinear resize, if that is not S×S                (B, 3, S, S)
          → clamp                                              (B, 3, S, S) in [0, 1]

    The same as ConvTranspose2d(k=3s, stride=s, padding=s) with a bias for each place in the block. With lpips_weight=0
    and enough steps it tends to the least-squares solution of pixels from features (a clamped one: values beyond the
    range cost nothing); with LPIPS in the loss it does not. ``width`` limits the rank of the map.
    """

    OptionsType = LinearOptions

    def __init__(self, features: FeatureShape, image_size: int, options: LinearOptions) -> None:
        super().__init__(features, image_size, options)
        self.block = -(-image_size // min(features.height, features.width))
        inputs = options.width or features.channels
        self.narrow = nn.Conv2d(features.channels, inputs, kernel_size=1, bias=False) if options.width else None
        self.to_blocks = start_near_zero(nn.Conv2d(inputs, COLOURS * self.block**2, kernel_size=3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        values = features if self.narrow is None else self.narrow(features)
        pixels = F.pixel_shuffle(self.to_blocks(values).float() + 0.5, self.block)  # training starts from mid-grey
        return clamp_to_image(resize_to(pixels, self.image_size))
