"""The photographs of one split, to score a finished run on: its own ones found again, or others."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from inversion.data.arrowfile import Row
from inversion.data.batches import center_crops
from inversion.data.cache import PhotoCache, content_digest, load_cached
from inversion.data.datasets import cache_folder
from inversion.data.hashing import hash_files
from inversion.data.splits import SPLITS, PhotoSet
from inversion.progress import Progress, no_progress


@dataclass(frozen=True)
class ScoredPhotos:
    """Names and stored centre crops ``uint8 (N, S, S, 3)`` of the photographs to score, and their set's digest.

    ``cache`` has no other photographs than these.
    """

    photos: PhotoSet
    split: str
    cache: PhotoCache
    digest: str
    names: list[str]
    crops: torch.Tensor


def set_digest(photos: PhotoSet, limits: Mapping[str, int], data_dir: Path, progress: Progress = no_progress) -> str:
    """The digest that ``load_cached`` gives a set under limits, without decoding it; empty if a file is unreadable."""
    used = [(split, photo) for split in SPLITS for photo in photos.splits[split][:limits.get(split) or None]]
    hashes, problems = hash_files([photo.path for _, photo in used], photos.root, cache_folder(data_dir), progress)
    if problems:
        return ""
    return content_digest(Row(photo.name, split, hashes[photo.path]) for split, photo in used)


def load_scored(photos: PhotoSet, split: str, limit: int, image_size: int, data_dir: Path,
                progress: Progress = no_progress) -> ScoredPhotos:
    """The first ``limit`` photographs of a split (0: all), prepared as the test images of every run are.

    Raises:
        DataError: photographs that cannot be used.
    """
    alone = dataclasses.replace(photos, splits={name: photos.splits[name] if name == split else [] for name in SPLITS})
    cache = load_cached(alone, image_size, cache_folder(data_dir), progress, {split: limit})
    crops = center_crops(cache.pixels(split), image_size)
    return ScoredPhotos(photos, split, cache, cache.digest, cache.names(split), crops)
