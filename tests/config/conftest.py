"""A machine without downloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from inversion.config import resolve as module
from inversion.losses.lpips_weights import TrunkSource
from inversion.losses.lpips_weights import find_trunk as find_real_trunk

Offline = Callable[..., None]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Offline:
    """``world(encoders="cached", alexnet=True, div2k=True)``: what this machine has or reaches; at first, nothing."""

    def make(encoders: str = "unreachable", alexnet: bool = False, div2k: bool = False) -> None:
        def find_trunk(text: str) -> TrunkSource | None:
            if text == "auto":
                return TrunkSource() if alexnet else None
            return find_real_trunk(text)

        monkeypatch.setattr(module, "imagenet_status", lambda cut: encoders)
        monkeypatch.setattr(module, "require_imagenet", lambda cut: None)
        monkeypatch.setattr(module, "find_trunk", find_trunk)
        monkeypatch.setattr(module, "resolve_auto", lambda folder: "div2k" if div2k else "sample")

    monkeypatch.setenv("INVERSION_DATA", str(tmp_path / "data"))
    make()
    return make
