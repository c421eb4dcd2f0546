"""Decoders: a feature map ``(B, C, h, w)`` to the image ``(B, 3, S, S)`` in [0, 1].

A new decoder is one file in this package with one class: derive it from ``Decoder``, and decorate it with
``@decoders.register("NAME")``, where NAME is the file's name. Import what it needs from here. Names, summaries and
options are available without PyTorch; ``Decoder`` and ``clamp_to_image``, which need it, are imported lazily. Decoders
outside this package are a file and a class in it, or entry points of an installed package (``open_registry``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inversion.models.decoders._options import DECLARED, parse_decoder_options
from inversion.models.open_registry import OpenRegistry
from inversion.models.options import Options, find_options_type

if TYPE_CHECKING:
    from inversion.models.decoders._base import Decoder, clamp_to_image

__all__ = ["Decoder", "Options", "clamp_to_image", "decoders", "options_type", "parse_decoder_options"]


def _adapt(name: str, made: Any) -> Any:
    """Has what is needed of a class of decoders: ``OptionsType`` and ``build``."""
    from inversion.models import FeatureShape
    from inversion.models.decoders._base import Decoder
    from inversion.models.outside import OutsidePart

    return OutsidePart("decoder", name, made, {"features": FeatureShape(1, 1, 1), "image_size": 1}, Decoder)


decoders: OpenRegistry[type[Decoder]] = OpenRegistry("decoder", "inversion.models.decoders", _adapt)


def options_type(name: str) -> type[Options]:
    """The class of a decoder's options, as ``find_options_type`` finds it, with its errors."""
    return find_options_type(decoders, DECLARED, name)


def __getattr__(name: str) -> Any:
    if name in ("Decoder", "clamp_to_image"):
        from inversion.models.decoders import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
