"""Gaussian noise with a standard deviation in units of the features' root mean square."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from inversion.models import FeatureShape
from inversion.models.modifiers import Modifier, modifiers
from inversion.models.modifiers._base import not_allowed

if TYPE_CHECKING:
    from torch import Tensor

    from inversion.models.modifiers._base import Normal

LEAST, MOST = 1e-6, 100
"""Less than the least is lost in the rounding of single precision."""


@modifiers.register("noise")
@dataclass(frozen=True)
class Noise(Modifier):
    """Adds independent Gaussian noise to every value; the shape stays ``(B, C, h, w)``.

    Its standard deviation is ``level`` times the root mean square of the features over the calibration images, one
    number for the whole map. In training it is drawn anew in every step; elsewhere it depends on the image alone.
    """

    level: float
    name: ClassVar[str] = "noise"
    examples: ClassVar[tuple[str, ...]] = ("0.1",)
    allowed: ClassVar[str] = f"{LEAST:f} to {MOST}, in units of the features' root mean square"
    is_random: ClassVar[bool] = True

    @classmethod
    def parse(cls, value: str) -> Self:
        try:
            level = float(value)
        except ValueError:
            level = math.nan
        if not LEAST <= level <= MOST:  # NaN is not either
            raise not_allowed(cls, value)
        return cls(level)

    @property
    def value(self) -> str:
        return repr(self.level).removesuffix(".0")  # the shortest text that gives the same number

    @property
    def is_calibrated(self) -> bool:
        return True

    def state(self, features: FeatureShape) -> dict[str, Tensor]:
        import torch

        return {"rms": torch.ones(())}

    def fit(self, maps: Iterator[Tensor]) -> dict[str, Tensor]:
        import torch

        total, number = 0.0, 0
        for features in maps:
            total += float(features.double().square().sum())
            number += features.numel()
        return {"rms": torch.tensor(math.sqrt(total / number))}

    def apply(self, features: Tensor, state: Mapping[str, Tensor], normal: Normal | None) -> Tensor:
        return features if normal is None else features + self.level * state["rms"] * normal(features)
