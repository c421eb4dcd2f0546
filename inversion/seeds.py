"""Random numbers that depend on a run's seed and on what they are for, and on nothing else.

Every use of chance draws from a generator of its own, so that neither what ran before in the process nor where a
resumed run picked up can change a number.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, purpose: str, *indices: int) -> int:
    """A 63-bit seed for one purpose, such as ``derive_seed(0, "crops", epoch)``."""
    text = "/".join([str(seed), purpose, *map(str, indices)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *indices: int) -> torch.Generator:
    """A CPU generator for one purpose; the same on every device, since all draws are made on the CPU."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, purpose, *indices))
