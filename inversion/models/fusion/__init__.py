"""Fusions: the feature maps of several encoders to one map ``(B, 256, H, W)``.

A new fusion is one file in this package with one class: derive it from ``Fusion``, implement ``merge``, and decorate it
with ``@fusions.register("NAME")``, where NAME is the file's name. Import what it needs from here. Names that need
PyTorch are imported lazily. Fusions outside this package are a file and a class in it, or entry points of an installed
package (``open_registry``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inversion.models.open_registry import OpenRegistry
from inversion.models.options import DesignOptions, Options, find_options_type

if TYPE_CHECKING:
    from inversion.models.fusion._base import FUSED_CHANNELS, Fusion, weighted_sum

__all__ = ["FUSED_CHANNELS", "Fusion", "fusions", "options_type", "weighted_sum"]


def _adapt(name: str, made: Any) -> Any:
    """Has what is needed of a class of fusions: ``OptionsType`` and ``build``."""
    from inversion.models import FeatureShape
    from inversion.models.fusion._base import Fusion
    from inversion.models.outside import OutsidePart

    return OutsidePart("fusion", name, made, {"shapes": (FeatureShape(1, 1, 1),) * 2}, Fusion)


fusions: OpenRegistry[type[Fusion]] = OpenRegistry("fusion", "inversion.models.fusion", _adapt)

_DECLARED = {"attention": DesignOptions, "concat": DesignOptions, "weighted": DesignOptions}


def options_type(name: str) -> type[Options]:
    """The class of a fusion's options, as ``find_options_type`` finds it, with its errors."""
    return find_options_type(fusions, _DECLARED, name)


def __getattr__(name: str) -> Any:
    if name in ("FUSED_CHANNELS", "Fusion", "weighted_sum"):
        from inversion.models.fusion import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
