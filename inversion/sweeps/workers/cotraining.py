"""Which runs of a study can train side by side, on one encoder pass."""

from __future__ import annotations

from inversion.sweeps.queue.entry import CONFIG, Entry

SHARED = ("encoder", "data", "data_dir", "weights", "lpips_weights", "protocol", "image_size", "batch_size",
          "train_limit", "val_limit", "test_limit", "seed", "device", "precision", "threads")
"""Parameters that decide which batches a run sees, what its encoders make of them, and how that is computed."""


def share_a_pass(one: Entry, other: Entry) -> bool:
    """Whether two queued runs see the same batches through the same encoders; not said of a search's, before."""
    first, second = (entry.trial.user_attrs.get(CONFIG) for entry in (one, other))
    return first is not None and second is not None and all(
        name in first and name in second and first[name] == second[name] for name in SHARED)
