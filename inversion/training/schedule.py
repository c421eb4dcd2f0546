"""The schedules of the learning rate: reduced on plateaus of the validation loss, or a cosine over the whole run."""

from __future__ import annotations

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from inversion.config.run_config import RunConfig


class PlateauSchedule(ReduceLROnPlateau):
    """Multiplies the rate by ``lr_factor`` after ``lr_patience`` epochs without a better validation loss."""

    def __init__(self, optimizer: Optimizer, config: RunConfig) -> None:
        super().__init__(optimizer, factor=config.lr_factor, patience=config.lr_patience, min_lr=config.min_lr)

    def before_step(self, step: int) -> None:
        """The rate changes between epochs only."""


class CosineSchedule:
    """From ``lr`` down to ``min_lr`` along half a cosine, over all ``steps`` of the run.

    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017
    (https://arxiv.org/abs/1608.03983), equation 5, without restarts. It depends on the step alone: there is no state.
    """

    def __init__(self, optimizer: Optimizer, config: RunConfig, steps: int) -> None:
        self._optimizer = optimizer
        self._highest, self._lowest = config.lr, config.min_lr
        self._steps = steps

    def before_step(self, step: int) -> None:
        """Sets the rate of a step, counted from 0 over the whole run."""
        share = 0.5 * (1 + math.cos(math.pi * step / self._steps))
        for group in self._optimizer.param_groups:
            group["lr"] = self._lowest + (self._highest - self._lowest) * share

    def step(self, loss: float) -> None:
        """The rate does not depend on the validation loss."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is no state."""


Schedule = PlateauSchedule | CosineSchedule


def make_schedule(optimizer: Optimizer, config: RunConfig, steps: int) -> Schedule:
    """The schedule that the configuration asks for; ``steps`` is the number of steps of the whole run."""
    if config.schedule == "cosine":
        return CosineSchedule(optimizer, config, steps)
    return PlateauSchedule(optimizer, config)
