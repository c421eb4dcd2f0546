"""Decoders: rebuild the image from a feature map.

One file and one decorator each. Import ``inversion.models.decoders._base`` for the interface; this module stays free of
PyTorch, so that names and summaries are known at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inversion.registry import Registry

if TYPE_CHECKING:
    from inversion.models.decoders._base import Decoder

decoders: Registry[type[Decoder]] = Registry("decoder", "inversion.models.decoders")
