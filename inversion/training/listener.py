"""What a training run tells the outside as it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor


class Picture(NamedTuple):
    """One image and its reconstruction, each ``(3, S, S)`` in [0, 1]."""

    name: str
    original: Tensor
    reconstruction: Tensor


class Listener:
    """Overrides what it wants to hear of; the rest goes unheard."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float) -> None:
        """Optimiser step ``step`` of ``steps`` in ``epoch`` (all from 1) is done."""

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is done, validated and saved. After a resume the last one before it is told again."""

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        """Reconstructions of a few validation images after an epoch; 0 is before training."""

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        """Checkpoints were written; ``final`` says that none will follow."""
