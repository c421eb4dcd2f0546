"""Average pooling by k×k: fewer locations, the same channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from inversion.errors import RequestError
from inversion.models import FeatureShape
from inversion.models.modifiers import Modifier, modifiers, whole_number

if TYPE_CHECKING:
    from torch import Tensor

    from inversion.models.modifiers._base import Normal

LARGEST = 512


@modifiers.register("pool")
@dataclass(frozen=True)
class Pool(Modifier):
    """Means over squares of ``side`` × ``side`` locations: ``(B, C, h, w)`` to ``(B, C, h / side, w / side)``.

    ``side`` must divide the map: with a remainder, locations at the border would be lost, and the rest would no longer
    cover the image.
    """

    side: int
    name: ClassVar[str] = "pool"
    examples: ClassVar[tuple[str, ...]] = ("2",)
    allowed: ClassVar[str] = f"a whole number, 2 to {LARGEST}, that divides the map"

    @classmethod
    def parse(cls, value: str) -> Self:
        return cls(whole_number(cls, value, 2, LARGEST))

    @property
    def value(self) -> str:
        return str(self.side)

    def shape(self, features: FeatureShape) -> FeatureShape:
        channels, height, width = features
        if height % self.side or width % self.side:
            divisors = [str(side) for side in range(2, min(height, width) + 1)
                        if height % side == 0 and width % side == 0]
            raise RequestError(f"{self} does not divide a map of {height}×{width}. Allowed here: "
                               f"{', '.join(divisors) or 'none'}.")
        return FeatureShape(channels, height // self.side, width // self.side)

    def apply(self, features: Tensor, state: Mapping[str, Tensor], normal: Normal | None) -> Tensor:
        from torch.nn import functional as F

        return F.avg_pool2d(features, self.side)
