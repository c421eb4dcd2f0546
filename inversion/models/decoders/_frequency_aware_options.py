"""Options of the decoder ``frequency_aware``, known without PyTorch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from inversion.models.decoders._options import Options


class FrequencyAwareOptions(Options):
    block: Literal["4", "8", "16", "32"] = "8"
    """side of a DCT block in pixels: 4, 8, 16 or 32"""
    cutoff: int = Field(4, ge=1)
    """coefficients (u, v) with u + v below it are low frequencies"""

    @model_validator(mode="after")
    def _some_frequency_is_high(self) -> Self:
        highest = 2 * int(self.block) - 2
        if self.cutoff > highest:
            raise ValueError(f"cutoff={self.cutoff} leaves no high frequency in blocks of {self.block}; "
                             f"the highest is {highest}")
        return self


OptionsType = FrequencyAwareOptions
