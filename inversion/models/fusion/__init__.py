"""Fusions: the feature maps of several encoders to one ``(B, 256, H, W)``. One file and one decorator each.

Everything that a fusion's file needs is imported from here. What needs PyTorch is imported when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inversion.registry import Registry

if TYPE_CHECKING:
    from inversion.models.fusion._base import FUSED_CHANNELS, Fusion, weighted_sum

__all__ = ["FUSED_CHANNELS", "Fusion", "fusions", "weighted_sum"]

fusions: Registry[type[Fusion]] = Registry("fusion", "inversion.models.fusion")


def __getattr__(name: str) -> Any:
    if name in ("FUSED_CHANNELS", "Fusion", "weighted_sum"):
        from inversion.models.fusion import _base

        return getattr(_base, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
