"""Decoders: a feature map ``(B, C, h, w)`` to the image ``(B, 3, S, S)`` in [0, 1].

A new decoder is one file in this package with one class: derive it from ``Decoder``, and decorate it with
``@decoders.register("NAME")``, where NAME is the file's name. Import what it needs from here. Names, summaries and
options are available without PyTorch; ``Decoder`` and ``clamp_to_image``, which need it, are imported lazily.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inversion.models.decoders._options import DECLARED, Options, parse_decoder_options
from inversion.registry import Registry

if TYPE_CHECKING:
    from inversion.models.decoders._base import Decoder, clamp_to_image

__all__ = ["Decoder", "Options", "clamp_to_image", "decoders", "options_type", "parse_decoder_options"]

decoders: Registry[type[Decoder]] = Registry("decoder", "inversion.models.decoders")


def options_type(name: str) -> type[Options]:
    """The class of a decoder's options; the decoder's file is imported only if it declares them itself.

    Raises:
        UnknownNameError: there is no such decoder.
    """
    decoders.check(name)
    if name in DECLARED:
        return DECLARED[name]
    return decoders.get(name).OptionsType if decoders.mentions(name, "OptionsType") else Options


def __getattr__(name: str) -> Any:
    if name in ("Decoder", "clamp_to_image"):
        from inversion.models.decoders import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
