"""Any folder of photographs: with splits of its own, or split by a fixed seed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from inversion.data.files import shown
from inversion.data.hashing import hash_files
from inversion.data.progress import Progress, quiet
from inversion.data.splits import SPLITS, Photo, PhotoSet, listed, permuted
from inversion.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".jp2"})

HELD_OUT = 0.15
"""Share of the photographs in each of validation and test, where a folder has no splits of its own."""

_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def photo_set(root: Path, index_folder: Path, progress: Progress = quiet) -> PhotoSet:
    """The photographs of a folder.

    Subfolders ``train``, ``val`` (or ``valid``, ``validation``) and ``test`` are the splits if there are any; else
    all photographs below the folder are split 70/15/15 by a fixed seed, identical files being used once. Hidden files
    are passed over, files of other kinds are listed as ignored.

    Args:
        root: the folder.
        index_folder: where the hashes of the files are remembered.
        progress: told how many photographs have been read.

    Raises:
        DataError: it cannot be read, a split is missing or empty, or there are fewer than 3 different photographs.
    """
    photos, ignored = _find(root)
    hashes, _ = hash_files([photo.path for photo in photos], root, index_folder, progress)
    name = shown(root.resolve().name)
    if own := _split_folders(root):
        splits = _own_splits(root, own, photos)
        warnings = _outside(photos, splits) + _overlaps(splits, hashes)
    else:
        photos, warnings = _used_once(photos, hashes)
        splits = _seeded_splits(root, photos)
    return PhotoSet(name, root, splits, ignored=ignored, warnings=warnings)


def _find(root: Path) -> tuple[list[Photo], list[str]]:
    """All photographs by name, and the names of the other files."""
    files = sorted(_walk(root, set()), key=lambda path: path.relative_to(root).as_posix())
    photos, ignored = [], []
    for path in files:
        name = shown(path.relative_to(root).as_posix())
        # A link to nowhere counts as a photograph, so that it is reported and not lost.
        if path.suffix.lower() in EXTENSIONS and (os.path.isfile(path) or path.is_symlink()):
            photos.append(Photo(name, path))
        else:
            ignored.append(name)
    return photos, ignored


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Files below a folder, links to folders followed once, hidden ones left out."""
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    try:
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{shown(folder)}: {error.strerror}") from error
    for path in entries:
        if os.path.isdir(path):  # unlike Path.is_dir, false for anything that cannot be looked into
            yield from _walk(path, seen)
        else:
            yield path


def _split_folders(root: Path) -> dict[str, str]:
    """Split to the name of its subfolder, empty if there is none of such a name.

    Raises:
        DataError: only some splits have a folder, or one has two.
    """
    found: dict[str, str] = {}
    for entry in sorted(path.name for path in root.iterdir() if os.path.isdir(path)):
        split = _SPLIT_FOLDERS.get(entry.lower())
        if split in found:
            raise DataError(f"{shown(root)} has both {found[split]}/ and {entry}/: keep one of them.")
        if split is not None:
            found[split] = entry
    missing = [split for split in SPLITS if split not in found]
    if found and missing:
        there = ", ".join(f"{name}/" for name in found.values())
        raise DataError(f"{shown(root)} has {there} but no {' and no '.join(f'{split}/' for split in missing)}: all of "
                        "train/, val/ and test/ are needed, or none of them, to have the photographs split 70/15/15.")
    return found


def _own_splits(root: Path, folders: dict[str, str], photos: list[Photo]) -> dict[str, list[Photo]]:
    splits = {split: [photo for photo in photos if photo.path.relative_to(root).parts[0] == folders[split]]
              for split in SPLITS}
    if empty := [folders[split] for split in SPLITS if not splits[split]]:
        raise DataError(f"{shown(root)}: no photographs in {', '.join(empty)} ({_known_extensions()}).")
    return splits


def _seeded_splits(root: Path, photos: list[Photo]) -> dict[str, list[Photo]]:
    if len(photos) < len(SPLITS):
        raise DataError(f"{shown(root)}: {len(photos)} different photographs; 3 or more are needed, one each to train, "
                        f"validate and test ({_known_extensions()}).")
    held_out = max(1, round(HELD_OUT * len(photos)))
    mixed = permuted(photos)
    return {"train": mixed[2 * held_out :], "val": mixed[:held_out], "test": mixed[held_out : 2 * held_out]}


def _used_once(photos: list[Photo], hashes: dict[Path, str]) -> tuple[list[Photo], list[str]]:
    """The photographs without those whose content another one has: it could stand in train and in test."""
    first: dict[str, Photo] = {}
    unique, repeats = [], []
    for photo in photos:
        content = hashes.get(photo.path, photo.name)  # what cannot be read is reported later, with what is not decoded
        if content in first:
            repeats.append(f"{photo.name} = {first[content].name}")
        else:
            first[content] = photo
            unique.append(photo)
    if not repeats:
        return unique, []
    return unique, [f"{_count(repeats)} left out: another one has the same content ({listed(repeats)})"]


def _outside(photos: list[Photo], splits: dict[str, list[Photo]]) -> list[str]:
    used = {photo for split in splits.values() for photo in split}
    outside = [photo.name for photo in photos if photo not in used]
    return [f"{_count(outside)} outside train, val and test and not used ({listed(outside)})"] if outside else []


def _overlaps(splits: dict[str, list[Photo]], hashes: dict[Path, str]) -> list[str]:
    """A warning for each two splits that have photographs in common."""
    warnings = []
    for one, other in combinations(SPLITS, 2):
        contents = {hashes[photo.path] for photo in splits[one] if photo.path in hashes}
        common = [photo.name for photo in splits[other] if hashes.get(photo.path) in contents]
        if common:
            stands = "photograph stands" if len(common) == 1 else "photographs stand"
            warnings.append(f"{len(common)} {stands} in both {one} and {other} ({listed(common)}): "
                            "the scores are flattered")
    return warnings


def _count(names: list[str]) -> str:
    return "1 photograph is" if len(names) == 1 else f"{len(names)} photographs are"


def _known_extensions() -> str:
    return f"known extensions: {' '.join(sorted(EXTENSIONS))}"
