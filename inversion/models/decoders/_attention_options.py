"""Options of the decoder ``attention``, known without PyTorch."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from inversion.models.decoders._options import Options


class AttentionOptions(Options):
    depth: int = Field(2, ge=1, le=24)
    """transformer blocks"""
    heads: int = Field(0, ge=0, le=64)
    """attention heads; they divide the width; 0: one for every 64 channels of it"""
    width: int = Field(0, ge=0, le=2048)
    """channels of a token; 0: those of the features as far as heads divide them, at most 128 beyond 1,024 tokens"""
    mlp_ratio: float = Field(2.0, gt=0, le=8)
    """hidden channels of the MLP, in units of the width"""
    pooled: int = Field(14, ge=1, le=64)
    """side of the map that keys and values are pooled to, where it is larger"""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.heads and self.width % self.heads:
            raise ValueError(f"heads={self.heads} does not divide width={self.width}")
        return self


OptionsType = AttentionOptions
