"""What a search may optimise: validation metrics, each with its direction; and when they can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from inversion.text import number

Direction = Literal["maximize", "minimize"]

BEST_PSNR = "best/val_psnr"
OBJECTIVES: Mapping[str, Direction] = {
    BEST_PSNR: "maximize", "best/val_loss": "minimize", "val/loss": "minimize", "val/mse": "minimize",
    "val/lpips": "minimize", "val/psnr": "maximize", "val/ssim": "maximize",
}
"""A metric logged by epoch counts at the best epoch. The direction of each follows from what it measures."""

GRID_METRIC = "val/psnr"
"""The metric that the runs of a grid report after every epoch, and by which a pruner compares them."""

COMPARABLE = ("protocol", "data", "image_size", "weights", "lpips_weights", "val_limit")
"""Parameters that must be equal for validation scores of two runs to be compared."""


@dataclass(frozen=True)
class Objective:
    """The metric by which the trials of a search are ranked."""

    metric: str
    direction: Direction

    @property
    def better(self) -> str:
        """``higher`` or ``lower``."""
        return "higher" if self.direction == "maximize" else "lower"

    @property
    def form(self) -> str:
        """The format specification of a value."""
        return ".2f" if self.is_psnr else ".4g"

    @property
    def unit(self) -> str:
        """`` dB``, or nothing."""
        return " dB" if self.is_psnr else ""

    @property
    def is_psnr(self) -> bool:
        return self.metric.endswith("psnr")

    def text(self, value: float) -> str:
        """A value with its unit: ``24.31 dB``, ``0.01234``."""
        return number(value, self.form) + self.unit

    def lead(self, value: float, other: float) -> float:
        """By how much a value is better than another one; negative if it is worse."""
        return value - other if self.direction == "maximize" else other - value
