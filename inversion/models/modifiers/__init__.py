"""Modifiers of an encoder's features, written behind its name: ``vgg16:block1/pool=2/bits=4``, in the order applied.

A new modifier is one file in this package with one class: derive it from ``Modifier``, and decorate it with
``@modifiers.register("NAME")``, where NAME is the file's name. The file must not import PyTorch at its top: values and
shapes are checked before PyTorch is imported.
"""

from __future__ import annotations

from collections.abc import Iterable

from inversion.errors import RequestError
from inversion.models.modifiers._base import Modifier, whole_number
from inversion.registry import Registry

__all__ = ["Modifier", "modifiers", "parse_modifiers", "whole_number"]

modifiers: Registry[type[Modifier]] = Registry("modifier", "inversion.models.modifiers")


def parse_modifiers(texts: Iterable[str]) -> tuple[Modifier, ...]:
    """Parses modifiers, each ``name=value``.

    Raises:
        UnknownNameError: there is no modifier of that name.
        RequestError: a value is missing, of the wrong type or out of range.
    """
    return tuple(_parse(text.strip()) for text in texts)


def _parse(text: str) -> Modifier:
    name, _, value = (piece.strip() for piece in text.partition("="))
    if not name:
        raise RequestError(f"a modifier is missing: write /name=value, as in vgg16:block1/pool=2. "
                           f"Known: {', '.join(modifiers.names())}.")
    kind = modifiers.get(name)
    if not value:
        raise RequestError(f"modifier {name} has no value. Allowed: {kind.allowed}.")
    return kind.parse(value)
