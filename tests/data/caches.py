"""Caches of pixels in a folder."""

from __future__ import annotations

from pathlib import Path

from inversion import files
from inversion.data.cache import PhotoCache, load_cached
from inversion.data.folder import photo_set

NAMES = [*(f"train/{number}.png" for number in range(4)), "val/a.png", "val/b.png", "test/a.png"]


def load(root: Path, folder: Path, image_size: int = 32, **limits: int) -> PhotoCache:
    return load_cached(photo_set(root, folder), image_size, folder, limits=limits)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != files.LOCK_NAME]
