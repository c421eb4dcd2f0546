"""Uniform quantisation to 2^b levels between each channel's smallest and largest calibrated value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from inversion.models import FeatureShape
from inversion.models.modifiers import Modifier, modifiers, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from inversion.models.modifiers._base import Normal

MOST = 16


@modifiers.register("bits")
@dataclass(frozen=True)
class Bits(Modifier):
    """Every value to the nearest of 2^b evenly spaced levels of its channel; the shape stays ``(B, C, h, w)``.

    The lowest and the highest level are the channel's smallest and largest value over all locations of the calibration
    images. They are known to sender and receiver, so that nothing but b bits per value is sent; a range for every map
    would have to be sent with it. A value within the range moves by at most half a step, one outside is clipped. A
    channel that is constant on the calibration images has one level.

    With a gradient (inversion by optimisation) it is passed through unchanged (Bengio, Léonard and Courville, 2013,
    https://arxiv.org/abs/1308.3432), as rounding has none.
    """

    number: int
    name: ClassVar[str] = "bits"
    examples: ClassVar[tuple[str, ...]] = ("4",)
    allowed: ClassVar[str] = f"a whole number, 1 to {MOST}"

    @classmethod
    def parse(cls, value: str) -> Self:
        return cls(whole_number(cls, value, 1, MOST))

    @property
    def value(self) -> str:
        return str(self.number)

    @property
    def bits_per_value(self) -> int:
        return self.number

    @property
    def steps(self) -> int:
        """The number of steps from the lowest level to the highest."""
        return (1 << self.number) - 1

    @property
    def is_calibrated(self) -> bool:
        return True

    def state(self, features: FeatureShape) -> dict[str, Tensor]:
        import torch

        return {"low": torch.zeros(features.channels), "step": torch.ones(features.channels)}

    def fit(self, maps: Iterator[Tensor]) -> dict[str, Tensor]:
        import torch

        ranges = [torch.stack(features.movedim(1, 0).flatten(1).aminmax(dim=1)) for features in maps]
        low = torch.stack([each[0] for each in ranges]).amin(0)
        high = torch.stack([each[1] for each in ranges]).amax(0)
        return {"low": low, "step": (high - low) / self.steps}

    def apply(self, features: Tensor, state: Mapping[str, Tensor], normal: Normal | None) -> Tensor:
        low, step = state["low"].view(-1, 1, 1), state["step"].view(-1, 1, 1)
        index = ((features - low) / step.clamp_min(_SMALLEST)).round().clamp(0, self.steps)
        levels = low + step * index
        # in the forward direction features - features is exactly 0
        return levels.detach() + (features - features.detach()) if features.requires_grad else levels


_SMALLEST = 1e-30
"""In place of the step of a constant channel, which is 0."""
