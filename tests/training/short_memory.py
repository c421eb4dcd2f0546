"""A device that runs out of memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inversion.training.callbacks import Callback
from inversion.training.trainer import Trainer

MESSAGE = "CUDA out of memory. Tried to allocate 9.00 GiB.\nmore"


class Told(Callback):
    """Remembers micro-batches and losses, in the order told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.losses: list[float | None] = []

    def on_micro_batch(self, size: int) -> None:
        self.sizes.append(size)

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        self.losses.append(loss)


def limit_memory(trainer: Trainer, images: int, training: bool = True) -> list[int]:
    """More than ``images`` at once do not fit, which shows after the forward pass; returns the sizes tried."""
    tried: list[int] = []

    def overflow(model: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        if model.training == training:
            tried.append(len(inputs[0]))
            if tried[-1] > images:
                raise torch.OutOfMemoryError(MESSAGE)

    trainer.model.register_forward_hook(overflow)
    return tried
