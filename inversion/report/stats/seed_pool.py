"""One configuration trained with one seed or several, scored on the same test images.

One seed says nothing about how much a score varies from training to training (Bouthillier et al., 2021): everything
computed from it holds for those trained networks, and nothing in it tells whether another seed would agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from inversion.report.stats.bootstrap import Array, resampled_means


@dataclass(frozen=True, eq=False)
class SeedPool:
    """Scores with a row for each test image (sorted by name) and a column for each seed."""

    table: pd.DataFrame

    @property
    def seeds(self) -> tuple[int, ...]:
        """In ascending order."""
        return tuple(int(seed) for seed in self.table.columns)

    @property
    def n(self) -> int:
        """How many seeds."""
        return self.table.shape[1]

    @cached_property
    def values(self) -> Array:
        """``(images, seeds)``."""
        return self.table.to_numpy(np.float64)

    @cached_property
    def resampled(self) -> Array:
        """The mean under every resample of the images and seeds: ``(R,)``."""
        return resampled_means(self.values, self.seeds)

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

    @property
    def spread(self) -> float | None:
        """Standard deviation (ddof 1) of the seeds' means; None for one seed, which says nothing about it."""
        return float(self.seed_means.std(ddof=1)) if self.n > 1 else None


def pool_seeds(frames: Mapping[int, pd.Series]) -> SeedPool:
    """Puts the scores of a configuration's seeds together: for each seed, a score for each image name.

    Raises:
        ValueError: no seed; seeds with other images; an image twice; a score that is no finite number.
    """
    if not frames:
        raise ValueError("a configuration without any seed cannot be pooled")
    seeds = sorted(frames)
    columns = [_checked(frames[seed], f"seed {seed}") for seed in seeds]
    for seed, column in zip(seeds, columns, strict=True):
        if not column.index.equals(columns[0].index):
            raise ValueError(f"seeds {seeds[0]} and {seed} were scored on different images")
    return SeedPool(pd.DataFrame(dict(zip(seeds, columns, strict=True))))


def _checked(scores: pd.Series, what: str) -> pd.Series:
    if not len(scores):
        raise ValueError(f"{what}: no image")
    if not scores.index.is_unique:
        raise ValueError(f"{what}: image {scores.index[scores.index.duplicated()][0]!r} is there twice")
    if not np.isfinite(scores.to_numpy(np.float64)).all():
        bad = scores.index[~np.isfinite(scores.to_numpy(np.float64))][0]
        raise ValueError(f"{what}: the score of image {bad!r} is no finite number")
    return scores.sort_index()
