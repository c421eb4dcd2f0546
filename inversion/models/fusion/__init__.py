"""Fusions: turn the feature maps of several encoders into one, which a decoder then inverts.

One file and one decorator each; ``inversion.models.fusion._base`` has the interface. This module is free of PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inversion.registry import Registry

if TYPE_CHECKING:
    from inversion.models.fusion._base import Fusion

fusions: Registry[type[Fusion]] = Registry("fusion", "inversion.models.fusion")
