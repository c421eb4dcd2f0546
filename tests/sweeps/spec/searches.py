"""Searches from the text of their sections."""

from __future__ import annotations

from pathlib import Path

import pytest

from inversion.errors import SeveralErrors
from inversion.sweeps.spec.search import Search
from inversion.sweeps.spec.spec import Spec, load_spec

NUMBERS = "{lr: {low: 1e-5, high: 1e-2, log: true}, mse_weight: {low: 0.1, high: 1}}"
MIXED = "{decoder: [wavelet, attention], lr: {low: 1e-5, high: 1e-2, log: true}, batch_size: {low: 2, high: 8}}"


def load(space: str = MIXED, base: str = "{}", **settings: str) -> Spec:
    """A search with its space in line 5, and each other setting in a line of its own after it, trials first."""
    lines = [f"  {name}: {value}" for name, value in ({"trials": "3"} | settings).items()]
    text = f"study: s\nbase: {base}\n\nsearch:\n  space: {space}\n" + "\n".join(lines)
    Path("s.yaml").write_text(text)
    return load_spec("s.yaml")


def search(space: str = MIXED, base: str = "{}", **settings: str) -> Search:
    found = load(space, base, **settings).search
    assert found is not None
    return found


def wrong(space: str = MIXED, base: str = "{}", **settings: str) -> list[str]:
    with pytest.raises(SeveralErrors) as caught:
        load(space, base, **settings)
    return caught.value.lines
