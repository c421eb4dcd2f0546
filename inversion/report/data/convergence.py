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


def still_rising(histories: Mapping[str, History]) -> dict[str, float]:
    """dB per epoch of the configurations that had not converged, by label."""
    return {label: rate for label, history in histories.items() if (rate := _rise(history)) is not None}


def too_short(histories: Mapping[str, History]) -> int:
    """Number of configurations with too few epochs to tell."""
    return sum(len(history) < FEWEST for history in histories.values())


def _rise(history: History) -> float | None:
    """dB per epoch over the last epochs, by least squares.

    None if the validation PSNR rose by no more than ``RISING_DB`` over them, or there are fewer than ``FEWEST``.
    """
    last = history[-max(FEWEST, round(SHARE * len(history))):]
    if len(last) < FEWEST:
        return None
    epochs, values = np.array(last, np.float64).T
    rate = float(np.polyfit(epochs - epochs.mean(), values, 1)[0])
    return rate if rate * (epochs[-1] - epochs[0]) > RISING_DB else None
