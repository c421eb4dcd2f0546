"""Predicts wavelet sub-bands and synthesises the image with a multi-level inverse discrete wavelet transform.

Mallat, "A theory for multiresolution signal decomposition: the wavelet representation", IEEE TPAMI 11(7), 1989. The
network runs at the resolution of the sub-bands, at most half the image's; the transform does the last upsampling.
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
    COLOURS,
    doublings,
    halved,
    resize_to,
    start_near_zero,
    trunk,
    upsampling_stage,
)
from inversion.models.decoders._options import WaveletOptions
from inversion.models.decoders._published import PublishedWavelet


@decoders.register("wavelet")
class WaveletDecoder(Decoder):
    """A trunk at the features' resolution and one upsampling stage per level; each level has a head for its sub-bands.

    ::

        features (B, C, h, w)
          → resize to n = S / 2^J, if it differs               (B, C, n, n)
          → depth × [Conv2d(3×3) → BatchNorm → ReLU]           (B, W, n, n), W = width, or max(C / 2, 64)
          → approximation: Conv2d(3×3)                         (B, 3, n, n)
          → for each level j = J … 1:
              details: Conv2d(3×3)                             (B, 9, S / 2^j, S / 2^j)
              upsampling stage, if j > 1                       (B, max(W / 2, 32), S / 2^(j−1), S / 2^(j−1))
          → inverse DWT of J levels, clamp                     (B, 3, S, S) in [0, 1]

    J is chosen so that n is the features' size wherever S is that size times a power of two.
    """

    OptionsType = WaveletOptions
    published = PublishedWavelet

    def __init__(self, features: FeatureShape, image_size: int, options: WaveletOptions) -> None:
        super().__init__(features, image_size, options)
        self.wavelet = options.wavelet
        halvings = (image_size & -image_size).bit_length() - 1  # number of times that 2 divides the image's side
        self.levels = max(1, min(doublings(features, image_size), halvings))
        width = options.width or max(features.channels // 2, 64)
        self.trunk = trunk(features.channels, width, options.depth)
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
        # An orthonormal wavelet scales the local mean by 2 per level; 0.5 makes training start from mid-grey.
        approximation = (self.approximation(values).float() + 0.5) * 2.0**self.levels
        bands = []
        for index, head in enumerate(self.details):
            # Natural images have about equal energy in each octave, so the coefficients grow by 2 per level too.
            bands.append(head(values).float() * (0.1 * 2.0 ** (self.levels - index)))
            if index < len(self.stages):
                values = self.stages[index](values)
        return clamp_to_image(inverse_dwt(approximation, bands, self.wavelet))


def inverse_dwt(approximation: Tensor, details: list[Tensor], wavelet: str) -> Tensor:
    """Multi-level inverse 2-D DWT, where the sub-bands of a level have exactly half the size of its result.

    ``approximation`` is ``(B, 3, n, n)``, ``details`` from coarse to fine ``(B, 9, n·2^i, n·2^i)``: horizontal,
    vertical and diagonal details for each colour. The result is ``(B, 3, n·2^J, n·2^J)``, equal to PyWavelets'
    ``idwt2`` level by level. A wavelet with L taps needs L/2 − 1 coefficients beyond the borders, which are padded by
    replication.
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
            approximation = waverec2(coefficients, filters)  # type: ignore[arg-type]  # its type hints are too narrow
    return approximation


@functools.cache  # given a name, ptwt copies the filters to the GPU at every call, which synchronises
def _filters(wavelet: str, device: torch.device, dtype: torch.dtype) -> WaveletTensorTuple:
    with torch.inference_mode(False):  # the first call may be in inference mode, later ones in training
        return WaveletTensorTuple(*(torch.tensor(taps, device=device, dtype=dtype)
                                    for taps in pywt.Wavelet(wavelet).filter_bank))
