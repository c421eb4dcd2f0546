"""Predicts wavelet sub-bands and synthesises the image with a multi-level inverse discrete wavelet transform.

Mallat, "A theory for multiresolution signal decomposition: the wavelet representation", IEEE TPAMI 11(7), 1989. The
network works at the sub-bands' resolution and never at the image's: the last doubling is the transform's.
"""

from __future__ import annotations

import functools

import pywt  # type: ignore[import-untyped]
import torch
from ptwt.constants import WaveletDetailTuple2d, WaveletTensorTuple
from ptwt.conv_transform_2 import waverec2
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, clamp_to_image, decoders
from inversion.models.decoders._layers import (
    convolution_stage,
    doublings,
    halved,
    resize_to,
    start_near_zero,
    upsampling_stage,
)
from inversion.models.decoders._options import WaveletOptions

COLOURS = 3


@decoders.register("wavelet")
class WaveletDecoder(Decoder):
    """A trunk at the features' resolution and one stage a level; each level has a head for its sub-bands.

    With J levels the coarsest sub-bands are ``S / 2^J`` wide, which is the width of the features wherever that is a
    power of two away from the image's; smaller features are resized.
    """

    OptionsType = WaveletOptions

    def __init__(self, features: FeatureShape, image_size: int, options: WaveletOptions) -> None:
        super().__init__(features, image_size, options)
        self.wavelet = options.wavelet
        halvings = (image_size & -image_size).bit_length() - 1  # how often the image's side can be halved
        self.levels = max(1, min(doublings(features, image_size), halvings))
        width = max(features.channels // 2, 64)
        self.trunk = convolution_stage(features.channels, width)
        self.approximation = start_near_zero(nn.Conv2d(width, COLOURS, kernel_size=3, padding=1))
        self.details = nn.ModuleList()
        self.stages = nn.ModuleList()
        for level in range(self.levels, 0, -1):
            self.details.append(start_near_zero(nn.Conv2d(width, 3 * COLOURS, kernel_size=3, padding=1)))
            if level > 1:
                self.stages.append(upsampling_stage(width, halved(width)))
                width = halved(width)

    def forward(self, features: Tensor) -> Tensor:
        values = self.trunk(resize_to(features, self.image_size >> self.levels))
        # An orthonormal wavelet scales a local mean by 2 a level; starting at mid-grey saves the network learning it.
        approximation = (self.approximation(values).float() + 0.5) * 2.0**self.levels
        bands = []
        for index, head in enumerate(self.details):
            # Natural images have about the same energy in each octave, so coefficients grow by 2 a level as well.
            bands.append(head(values).float() * (0.1 * 2.0 ** (self.levels - index)))
            if index < len(self.stages):
                values = self.stages[index](values)
        return clamp_to_image(inverse_dwt(approximation, bands, self.wavelet))


def inverse_dwt(approximation: Tensor, details: list[Tensor], wavelet: str) -> Tensor:
    """Multi-level inverse 2-D DWT of sub-bands that are exactly half as wide as what they synthesise.

    ``approximation`` is ``(B, 3, n, n)``, ``details`` from coarse to fine ``(B, 9, n·2^i, n·2^i)``: horizontal,
    vertical and diagonal details for each colour. The result is ``(B, 3, n·2^J, n·2^J)``, equal to PyWavelets'
    ``idwt2`` level by level. A wavelet with L taps needs L/2 − 1 coefficients beyond each border; they repeat the
    last one.
    """
    filters = _filters(wavelet, approximation.device, approximation.dtype)
    beyond = filters.dec_len // 2 - 1
    with torch.autocast(approximation.device.type, enabled=False):
        for level in details:
            bands = [approximation, *level.chunk(3, dim=1)]
            before, after = beyond // 2, beyond - beyond // 2
            if beyond:
                bands = [F.pad(band, (before, after, before, after), mode="replicate") for band in bands]
            coefficients = (bands[0], WaveletDetailTuple2d(*bands[1:]))
            approximation = waverec2(coefficients, filters)  # type: ignore[arg-type]  # its own tuple is not in its types
    return approximation


@functools.cache  # given a name, ptwt would send the filters to a GPU at every call, and the host would wait
def _filters(wavelet: str, device: torch.device, dtype: torch.dtype) -> WaveletTensorTuple:
    with torch.inference_mode(False):  # whoever asks first, training can use them
        return WaveletTensorTuple(*(torch.tensor(taps, device=device, dtype=dtype)
                                    for taps in pywt.Wavelet(wavelet).filter_bank))
