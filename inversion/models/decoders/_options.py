"""The options of decoders, declared and checked without PyTorch, so that errors are reported immediately.

The options of the project's own decoders are declared here. Another decoder can declare its options in its own file;
checking them then imports that file, and with it PyTorch, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from inversion.models.options import DesignOptions, Options, parse_part_options


class AttentionOptions(DesignOptions):
    depth: int = Field(2, ge=1, le=24)
    """transformer blocks"""
    heads: int = Field(0, ge=0, le=64)
    """attention heads; must divide the width; 0: one per 64 channels of the width"""
    width: int = Field(0, ge=0, le=2048)
    """channels of a token; 0: those of the features, at most 128 above 1,024 tokens, as a multiple of heads"""
    mlp_ratio: float = Field(2.0, gt=0, le=8)
    """hidden channels of the MLP, in units of the width"""
    pooled: int = Field(14, ge=1, le=64)
    """largest side of the map of keys and values; a larger map is average-pooled to it"""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.heads and self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self


class LinearOptions(Options):
    width: int = Field(0, ge=0, le=2048)
    """rank of the map: channels that the features are projected to before; 0: all of theirs"""


class TransposedConvOptions(Options):
    width: int = Field(0, ge=0, le=2048)
    """channels after the first upsampling, each further one halves them to no fewer than 32; 0: half the features'"""
    depth: int = Field(0, ge=0, le=24)
    """3×3 convolutions after each upsampling"""


class ResidualOptions(Options):
    width: int = Field(0, ge=0, le=2048)
    """channels at the features' resolution, halved by each doubling to no fewer than 64; 0: the features', 64 to 256"""
    depth: int = Field(2, ge=0, le=24)
    """residual blocks at each resolution below the image's"""


class FrequencyAwareOptions(DesignOptions):
    block: Literal["4", "8", "16", "32"] = "8"
    """side of a DCT block in pixels: 4, 8, 16 or 32"""
    cutoff: int = Field(4, ge=1)
    """coefficients (u, v) with u + v < cutoff are low frequencies"""
    width: int = Field(0, ge=0, le=2048)
    """channels of the trunk; 0: half the features', at least 64"""
    depth: int = Field(1, ge=1, le=24)
    """3×3 convolutions of the trunk"""

    @model_validator(mode="after")
    def _some_frequency_is_high(self) -> Self:
        highest = 2 * int(self.block) - 2
        if self.cutoff > highest:
            raise ValueError(f"cutoff={self.cutoff} leaves no high frequency in blocks of {self.block}; "
                             f"the highest is {highest}")
        return self


class WaveletOptions(DesignOptions):
    wavelet: str = "haar"
    """any discrete wavelet of PyWavelets, such as haar, db2 or bior2.2"""
    width: int = Field(0, ge=0, le=2048)
    """channels of the trunk; 0: half the features', at least 64"""
    depth: int = Field(1, ge=1, le=24)
    """3×3 convolutions of the trunk"""

    @field_validator("wavelet")
    @classmethod
    def _known_to_pywavelets(cls, value: str) -> str:
        import pywt  # type: ignore[import-untyped]

        if value not in pywt.wavelist(kind="discrete"):
            raise ValueError("not a discrete wavelet of PyWavelets")
        return value


DECLARED: Mapping[str, type[Options]] = {
    "attention": AttentionOptions, "frequency_aware": FrequencyAwareOptions,
    "linear": LinearOptions, "residual": ResidualOptions, "transposed_conv": TransposedConvOptions,
    "wavelet": WaveletOptions,
}
"""Options by decoder name."""


def parse_decoder_options(decoder: str, declared: type[Options], values: Mapping[str, str]) -> Options:
    """Parses a decoder's options as ``parse_part_options`` does, with its errors."""
    return parse_part_options("decoder", decoder, declared, values)
