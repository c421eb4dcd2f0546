"""Pictures as they are logged: an image, its reconstruction and their difference in one."""

from __future__ import annotations

from typing import Any

import numpy as np

from inversion.training.callbacks import Picture


def strip(picture: Picture) -> np.ndarray[Any, Any]:
    """Original, reconstruction and absolute difference side by side, ``uint8 (S, 3·S, 3)``."""
    difference = np.abs(picture.original.astype(np.int16) - picture.reconstruction).astype(np.uint8)
    return np.concatenate([picture.original, picture.reconstruction, difference], axis=1)


def square(picture: Picture) -> np.ndarray[Any, Any]:
    """Original and reconstruction, below them the absolute difference and white: ``uint8 (2·S, 2·S, 3)``.

    MLflow's slider scales pictures down to 256 pixels, in which a strip would be too small.
    """
    original, reconstruction, difference = np.split(strip(picture), 3, axis=1)
    upper = np.concatenate([original, reconstruction], axis=1)
    lower = np.concatenate([difference, np.full_like(difference, 255)], axis=1)
    return np.concatenate([upper, lower])
