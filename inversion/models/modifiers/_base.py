"""The base class of modifiers, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Self, TypeAlias

from inversion.errors import RequestError
from inversion.models import FeatureShape

if TYPE_CHECKING:
    from torch import Tensor

    Normal: TypeAlias = Callable[[Tensor], Tensor]
    """Standard normal numbers of the shape, dtype and device of a feature map ``(B, C, h, w)``."""


class Modifier:
    """A change of a feature map: ``(B, C, h, w)`` float32 to ``(B, C', h', w')`` float32, image by image.

    Derived classes are frozen dataclasses of plain values, so that a modifier is a part of an encoder's name. Tensors
    that ``apply`` needs are its state: they are buffers of the encoder, calibrated before training, and stored in
    checkpoints. ``str(modifier)`` is the canonical text, ``pool=2``.
    """

    name: ClassVar[str]
    """The name in the registry."""
    examples: ClassVar[tuple[str, ...]]
    """Values, for ``inversion list`` and for the tests of all modifiers."""
    allowed: ClassVar[str]
    """The allowed values in words, for messages and ``inversion list``."""
    is_random: ClassVar[bool] = False
    """Whether ``apply`` draws random numbers."""

    @classmethod
    def parse(cls, value: str) -> Self:
        """The modifier with this value.

        Raises:
            RequestError: the value is not allowed.
        """
        raise NotImplementedError(f"{cls.__name__} does not implement parse")

    @property
    def value(self) -> str:
        """The canonical text of the value; ``parse`` reads it."""
        raise NotImplementedError(f"{type(self).__name__} does not implement value")

    def __str__(self) -> str:
        return f"{self.name}={self.value}"

    @property
    def bits_per_value(self) -> int | None:
        """Bits that one value of the result needs; None if the modifier does not limit them."""
        return None

    @property
    def is_calibrated(self) -> bool:
        """Whether ``fit`` measures the state on training images."""
        return False

    def shape(self, features: FeatureShape) -> FeatureShape:
        """The shape of the result for a map of this shape.

        Raises:
            RequestError: the modifier cannot be applied to such a map; the message begins with what is wrong.
        """
        return features

    def state(self, features: FeatureShape) -> dict[str, Tensor]:
        """The state for maps of this shape, by name; before ``fit``, placeholders of the same shapes."""
        return {}

    def fit(self, maps: Iterator[Tensor]) -> dict[str, Tensor]:
        """The state, measured on the maps ``(B, C, h, w)`` of training images, which are read once."""
        return {}

    def apply(self, features: Tensor, state: Mapping[str, Tensor], normal: Normal | None) -> Tensor:
        """The modified features.

        Args:
            features: ``(B, C, h, w)`` float32.
            state: the state.
            normal: draws random numbers; None to leave the noise out.
        """
        raise NotImplementedError(f"{type(self).__name__} does not implement apply")


def whole_number(kind: type[Modifier], text: str, least: int, most: int) -> int:
    """A modifier's value as a whole number within limits.

    Raises:
        RequestError: it is none, or out of range.
    """
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else least - 1
    if not least <= number <= most:
        raise not_allowed(kind, text)
    return number


def not_allowed(kind: type[Modifier], text: str) -> RequestError:
    """The error of a value that is not allowed."""
    return RequestError(f"modifier {kind.name}: {text!r} is not allowed. Allowed: {kind.allowed}.")
