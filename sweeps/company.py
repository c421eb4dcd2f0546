"""Which runs of a study can train side by side, on one encoder pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

from sweeps.entry import CONFIG, Entry

SHARED = ("encoder", "data", "data_dir", "weights", "lpips_weights", "protocol", "image_size", "batch_size",
          "train_limit", "val_limit", "test_limit", "seed", "device", "precision", "threads")
"""Parameters that decide which batches a run sees, what its encoders make of them, and how that is computed."""


def share_a_pass(one: Entry, other: Entry) -> bool:
    """Whether two queued runs see the same batches through the same encoders; not said of a search's, before."""
    first = _pass(one)
    return first is not None and first == _pass(other)


def with_companions(entries: Sequence[Entry]) -> int:
    """How many of these runs share a pass with another one of them."""
    passes = Counter(_pass(entry) for entry in entries)
    return sum(count for shared, count in passes.items() if shared is not None and count > 1)


def _pass(entry: Entry) -> Hashable:
    config = entry.trial.user_attrs.get(CONFIG)
    return None if config is None else tuple(config[name] for name in SHARED)
