"""What a training run tells the outside as it happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from inversion.images import to_uint8

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
"""``uint8 (S, S, 3)``: a quarter of the memory of the image itself, and two hundred are held at a run's end."""


class Picture(NamedTuple):
    """One image and its reconstruction as they are shown."""

    name: str
    original: Pixels
    reconstruction: Pixels

    @classmethod
    def of(cls, name: str, original: Tensor, reconstruction: Tensor) -> Picture:
        """Of two images ``(3, S, S)`` in [0, 1]."""
        return cls(name, to_uint8(original), to_uint8(reconstruction))


class Callback:
    """Overrides what it wants to hear of; the rest goes unheard. What a method raises ends the run."""

    def on_begin(self, run_id: str) -> None:
        """The run is about to begin, or to go on, under this id."""

    def on_commit(self) -> None:
        """Everything of the run is logged, and it is about to be called FINISHED."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        """Optimiser step ``step`` of ``steps`` in ``epoch`` (all from 1) is done, or queued on a GPU.

        ``loss`` is None where reading it would make the device wait.
        """

    def on_micro_batch(self, size: int) -> None:
        """Memory was short: steps compute ``size`` images at a time from here on. Told again after a resume."""

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is done, validated and saved. After a resume the last one before it is told again."""

    def on_next_epoch(self, epoch: int) -> None:
        """Epoch ``epoch`` is about to begin, and is not the first. A PrunedRunError gives the run up."""

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        """Reconstructions of a few validation images after an epoch; 0 is before training."""

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        """Checkpoints were written; ``final`` says that none will follow."""
