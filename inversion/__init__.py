"""Feature-inversion studies: how much of an image survives inside a neural network?

A frozen encoder is cut at a layer, a decoder is trained to rebuild the image from the features, and the
reconstruction is scored. ``inversion.models.model`` has the data flow, ``inversion.images`` the value ranges.

From Python: ``import inversion as inv``, then ``inv.train``, ``inv.sweep``, ``inv.study``, ``inv.find``, ``inv.load``.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_API = {"Run": "runs", "find": "runs", "load": "runs", "train": "runs",
        "Study": "studies", "study": "studies", "sweep": "studies"}


def __getattr__(name: str) -> Any:
    """Imports a function of the API when it is first used: PyTorch and MLflow take seconds."""
    if name not in _API:
        raise AttributeError(f"module 'inversion' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"inversion.api.{_API[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_API])
