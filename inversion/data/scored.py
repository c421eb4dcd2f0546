"""The photographs on which a finished run is evaluated: its own test split, or a split of another dataset."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from inversion.data.batches import center_crops
from inversion.data.cache import PhotoCache, content_digest, hash_photos, load_cached
from inversion.data.datasets import cache_folder
from inversion.data.splits import SPLITS, PhotoSet
from inversion.progress import Progress, no_progress


@dataclass(frozen=True)
class ScoredPhotos:
    """Names and stored centre crops ``uint8 (N, S, S, 3)`` of the photographs to score, and the digest of the set.

    ``cache`` holds only these photographs.
    """

    photos: PhotoSet
    split: str
    cache: PhotoCache
    digest: str
    names: list[str]
    crops: torch.Tensor


def set_digest(photos: PhotoSet, limits: Mapping[str, int], data_dir: Path, progress: Progress = no_progress) -> str:
    """The digest of a set as in ``load_cached``, without decoding it; empty if a file is unreadable."""
    hashed, problems = hash_photos(photos, cache_folder(data_dir), progress, limits)
    return "" if problems else content_digest(row for row, _ in hashed)


def load_scored(photos: PhotoSet, split: str, limit: int, image_size: int, data_dir: Path,
                progress: Progress = no_progress) -> ScoredPhotos:
    """Loads the first ``limit`` photographs of a split (0: all) with the preprocessing of a run's test images.

    Raises:
        DataError: some photographs are unusable.
    """
    alone = dataclasses.replace(photos, splits={name: photos.splits[name] if name == split else [] for name in SPLITS})
    cache = load_cached(alone, image_size, cache_folder(data_dir), progress, {split: limit})
    crops = center_crops(cache.pixels(split), image_size)
    return ScoredPhotos(photos, split, cache, cache.digest, cache.names(split), crops)
