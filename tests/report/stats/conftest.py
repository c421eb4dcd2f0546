"""Constructed scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from inversion.report.stats.pools import SeedPool, pool_seeds

Array = npt.NDArray[np.float64]


def _scored(values: Array | list[float]) -> pd.Series:
    return pd.Series(np.asarray(values, float), [f"{i:03}.png" for i in range(len(values))])


@pytest.fixture(scope="session")
def scored() -> Callable[..., pd.Series]:
    """``scored(values)``: scores of images called 000.png, 001.png, …"""
    return _scored


@pytest.fixture(scope="session")
def pool_of() -> Callable[..., SeedPool]:
    """``pool_of(values)``: a pool from ``(images, seeds)``; of one seed from ``(images,)``."""

    def make(values: Array | list[float], seeds: tuple[int, ...] | None = None) -> SeedPool:
        table = np.asarray(values, float).reshape(len(values), -1)
        return pool_seeds({seed: _scored(table[:, i]) for i, seed in enumerate(seeds or range(table.shape[1]))})

    return make


@pytest.fixture(scope="session")
def study_of() -> Callable[..., dict[str, SeedPool]]:
    """``study_of(generator, configurations, seeds)``: equal configurations ``c0``, ``c1``, … of random scores in dB.

    Images share their difficulty; a pair differs by ``image_sd`` from image to image, and the mean of a configuration
    by its element of ``seed_sd`` from training to training. ``gain`` is added to ``c0``.
    """

    def make(generator: np.random.Generator, configurations: int, seeds: int, *, images: int = 100,
             image_sd: float = 0.3, seed_sd: float | Array = 0.15, gain: float = 0.0) -> dict[str, SeedPool]:
        names = [f"{i:03}.png" for i in range(images)]
        scores = 17 + generator.normal(0, 2, (images, 1, 1))
        scores = scores + generator.normal(0, image_sd / np.sqrt(2), (images, configurations, 1))
        scores = scores + generator.normal(0, 1, (1, configurations, seeds)) * np.broadcast_to(
            seed_sd, (configurations,))[None, :, None]
        scores[:, 0] += gain
        return {f"c{i}": SeedPool(pd.DataFrame(scores[:, i], names, range(seeds))) for i in range(configurations)}

    return make
