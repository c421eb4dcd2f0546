"""Whether training had converged when it ended, from the validation PSNR of every epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SHARE = 0.2
"""The last part of training that is looked at; at least ``FEWEST`` epochs."""

FEWEST = 3
RISING_DB = 0.1
"""A larger rise over that part counts as not converged."""

History = Sequence[tuple[int, float]]


def slope(history: History) -> float | None:
    """dB per epoch over the last epochs, by least squares; None with fewer than ``FEWEST`` epochs."""
    last = history[-max(FEWEST, round(SHARE * len(history))):]
    if len(last) < FEWEST:
        return None
    epochs, values = np.array(last, np.float64).T
    return float(np.polyfit(epochs - epochs.mean(), values, 1)[0])


def is_rising(history: History) -> bool:
    """Whether the validation PSNR still rose by more than ``RISING_DB`` over the last epochs."""
    last = history[-max(FEWEST, round(SHARE * len(history))):]
    rate = slope(history)
    return rate is not None and rate * (last[-1][0] - last[0][0]) > RISING_DB


def still_rising(histories: Mapping[str, History]) -> dict[str, float]:
    """dB per epoch of the configurations that had not converged, by label."""
    return {label: rate for label, history in histories.items()
            if is_rising(history) and (rate := slope(history)) is not None}
