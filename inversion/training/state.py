"""The progress of a run as plain data for its checkpoints, early stopping, and the choice of the best epoch."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass
class TrainingState:
    """Progress of a run: ``epoch`` is the last finished one (from 1), ``step`` and the sums belong to the next."""

    epoch: int = 0
    step: int = 0
    images: int = 0
    loss_sum: float = 0.0
    mse_sum: float = 0.0
    lpips_sum: float = 0.0
    own_sum: float = 0.0
    seconds_in_epoch: float = 0.0
    train_seconds: float = 0.0
    validation_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    best_epoch: int = 0
    best_loss: float = math.inf
    best_psnr: float = math.nan
    best_train_loss: float = math.nan
    last_metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    micro_batch: int = 0
    """images that a step computes at a time, accumulating gradients; 0: the whole batch"""

    @property
    def has_begun(self) -> bool:
        """Whether any step is done."""
        return self.epoch > 0 or self.step > 0

    def finish_epoch(self, val_loss: float, val_psnr: float, train_loss: float) -> bool:
        """Finishes the epoch; returns whether its validation loss is the lowest so far."""
        self.epoch += 1
        self.step = self.images = 0
        self.loss_sum = self.mse_sum = self.lpips_sum = self.own_sum = self.seconds_in_epoch = 0.0
        better = val_loss < self.best_loss
        if better:
            self.best_epoch, self.best_loss, self.best_psnr = self.epoch, val_loss, val_psnr
            self.best_train_loss = train_loss
        return better

    def is_done(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the best one is ``patience`` epochs ago."""
        return self.epoch >= epochs or self.epoch - self.best_epoch >= patience

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
