"""Per-image scores of one configuration, for all its seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SeedPool:
    """Scores with a row for each test image (sorted by name) and a column for each seed."""

    table: pd.DataFrame
    planned: int = 0
    """Number of seeds to reckon with, if above that of the table."""
    is_trained: bool = True
    """Whether another training would give other scores; False for images that nothing is trained for."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(int(seed) for seed in self.table.columns)

    @property
    def n(self) -> int:
        """Number of seeds."""
        return max(self.planned, self.table.shape[1])

    def as_if(self, seeds: int) -> SeedPool:
        """The same scores as if they were means over more seeds: for planning."""
        return replace(self, planned=seeds)

    @cached_property
    def values(self) -> Array:
        """``(images, seeds)``."""
        return self.table.to_numpy(np.float64)

    @property
    def scores(self) -> pd.Series:
        """Mean over the seeds for each image: what paired tests compare."""
        return self.table.mean(axis=1)

    @property
    def mean(self) -> float:
        """Over images and seeds."""
        return float(self.values.mean())

    @property
    def seed_means(self) -> pd.Series:
        """Mean over the images for each seed."""
        return self.table.mean(axis=0)

    @cached_property
    def spread(self) -> float | None:
        """Standard deviation (ddof 1) of the seeds' means; None for one seed, which says nothing about it."""
        return float(self.seed_means.std(ddof=1)) if self.table.shape[1] > 1 else None


def pool_seeds(frames: Mapping[int, pd.Series]) -> SeedPool:
    """Combines the scores of a configuration's seeds; ``frames`` has a series of scores by image name for each seed.

    Raises:
        ValueError: no seeds, seeds scored on different images, a duplicate image, or a score that is not finite.
    """
    if not frames:
        raise ValueError("no seeds to pool")
    seeds = sorted(frames)
    columns = [_checked(frames[seed], f"seed {seed}") for seed in seeds]
    for seed, column in zip(seeds, columns, strict=True):
        if not column.index.equals(columns[0].index):
            raise ValueError(f"seeds {seeds[0]} and {seed} were scored on different images")
    return SeedPool(pd.DataFrame(dict(zip(seeds, columns, strict=True))))


def _checked(scores: pd.Series, what: str) -> pd.Series:
    if not len(scores):
        raise ValueError(f"{what}: no images")
    if not scores.index.is_unique:
        raise ValueError(f"{what}: image {scores.index[scores.index.duplicated()][0]!r} occurs twice")
    if not np.isfinite(scores.to_numpy(np.float64)).all():
        bad = scores.index[~np.isfinite(scores.to_numpy(np.float64))][0]
        raise ValueError(f"{what}: the score of image {bad!r} is not finite")
    return scores.sort_index()
