"""Callbacks: what happens in a training run, event by event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from inversion.images import to_uint8

Pixels: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
"""``uint8 (S, S, 3)``: a quarter of the memory of the image itself, and two hundred are held at a run's end."""


class Picture(NamedTuple):
    """An image and its reconstruction, for display."""

    name: str
    original: Pixels
    reconstruction: Pixels

    @classmethod
    def of(cls, name: str, original: Tensor, reconstruction: Tensor) -> Picture:
        """From two images ``(3, S, S)`` in [0, 1]."""
        return cls(name, to_uint8(original), to_uint8(reconstruction))


class Callback:
    """Base class whose methods do nothing. An exception that a method raises ends the run."""

    def on_begin(self, run_id: str) -> None:
        """The run of this id is about to begin or to be resumed."""

    def on_commit(self) -> None:
        """Everything of the run is logged, and it is about to be marked FINISHED."""

    def on_preparation(self, what: str, done: int, total: int) -> None:
        """So many of the crops are prepared before training."""

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        """Optimizer step ``step`` of ``steps`` in ``epoch`` (all from 1) is done, or queued on a GPU.

        ``loss`` is None where reading it would make the host wait for the device.
        """

    def on_micro_batch(self, size: int) -> None:
        """Memory ran out: from now on, steps compute ``size`` images at a time. Repeated after a resume."""

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch is trained, validated and saved. After a resume, the last epoch before it is repeated."""

    def on_next_epoch(self, epoch: int) -> None:
        """Epoch ``epoch``, which is not the first, is about to begin. Raise PrunedRunError to prune the run."""

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        """Reconstructions of a few validation images after an epoch; epoch 0 is before training."""

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        """Checkpoints were written; ``final`` if they are the run's last."""


class CallbackList(Callback):
    """Calls several callbacks in order. If one raises, those after it are not called."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self.callbacks = tuple(callbacks)

    def on_begin(self, run_id: str) -> None:
        for callback in self.callbacks:
            callback.on_begin(run_id)

    def on_commit(self) -> None:
        for callback in self.callbacks:
            callback.on_commit()

    def on_preparation(self, what: str, done: int, total: int) -> None:
        for callback in self.callbacks:
            callback.on_preparation(what, done, total)

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        for callback in self.callbacks:
            callback.on_step(epoch, step, steps, loss)

    def on_micro_batch(self, size: int) -> None:
        for callback in self.callbacks:
            callback.on_micro_batch(size)

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        for callback in self.callbacks:
            callback.on_epoch(epoch, metrics)

    def on_next_epoch(self, epoch: int) -> None:
        for callback in self.callbacks:
            callback.on_next_epoch(epoch)

    def on_pictures(self, epoch: int, pictures: Sequence[Picture]) -> None:
        for callback in self.callbacks:
            callback.on_pictures(epoch, pictures)

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        for callback in self.callbacks:
            callback.on_checkpoint(files, final)
