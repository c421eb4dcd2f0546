"""A folder of photographs as a dataset: with its own splits, or split at random with a fixed seed.

The same rules hold for what is packed in shards and tables (``in_splits``): there, the names of splits are those of
shards, of folders in them, or of the dataset itself.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from inversion.data import formats
from inversion.data.content import Place
from inversion.data.hashing import hash_files
from inversion.data.layouts import Layout, find_layout, names_of, refuse_missing
from inversion.data.scan import Scan, scan
from inversion.data.splits import SPLITS, Photo, PhotoSet, hold_out, permuted
from inversion.errors import DataError
from inversion.files import shown
from inversion.progress import Progress, no_progress
from inversion.text import first_of

HELD_OUT = 0.15
"""Fraction of the photographs for validation and for test, each, if a folder has no splits."""

BY_SEED = "split 70/15/15 by a fixed seed"


def photo_set(root: Path, index_folder: Path, progress: Progress = no_progress) -> PhotoSet:
    """The photographs of a folder.

    Subfolders with the names of splits (``inversion.data.layouts``) are used as such. If there are only train and one
    other, that one is the test set, and a fifth of train is held out for validation, as the study did with DIV2K.
    Without splits, the photographs are split 70/15/15 with a fixed seed, and of identical files only one is used.
    Hidden files, low-resolution copies and files with an unsupported extension are not used; ``remarks`` says how the
    folder was interpreted.

    Args:
        root: the folder.
        index_folder: the folder of the hash index.
        progress: called with the number of photographs read.

    Raises:
        DataError: the folder cannot be read, a split is missing or empty, or fewer than 3 photographs are different.
    """
    return in_splits(scan(root), shown(root.resolve().name), str(root.resolve()), index_folder, progress)


def in_splits(found: Scan, name: str, data: str, index_folder: Path, progress: Progress = no_progress) -> PhotoSet:
    """The photographs that were found, in splits by the rules of ``photo_set``.

    Args:
        found: the photographs and their folders.
        name: the name of the set.
        data: the value of the parameter ``data`` that finds the set from any folder.
        index_folder: the folder of the hash index.
        progress: called with the number of photographs read.

    Raises:
        DataError: as ``photo_set``.
    """
    layout, remarks = find_layout(found)
    hashes, _ = hash_files([photo.path for photo in found.photos], found.root, index_folder, progress)
    if layout is None or list(layout.folders) == ["train"]:
        photos, warnings = _used_once(found.photos, hashes)
        splits = _seeded_splits(found, photos)
        if layout:
            remarks.append(f"{layout.named('train')} has no test set beside it: {BY_SEED}")
        elif len(folders := {found.parts(photo) for photo in photos}) > 1:
            remarks.append(f"no split folders (train/ beside val/ or test/) among {names_of(folders - {()})}: all "
                           f"photographs are one set, {BY_SEED}")
    else:
        splits, warnings = _own_splits(found, layout, hashes)
        warnings += _outside(found.photos, layout.photos(found)) + _overlaps(splits, hashes)
        remarks += _explained(layout)
    used = sum(map(len, splits.values()))
    return PhotoSet(name, found.root, data, splits, ignored=found.ignored, warnings=warnings,
                    remarks=[*remarks, *found.left_out(used)])


def _own_splits(found: Scan, layout: Layout, hashes: dict[Place, str]) -> tuple[dict[str, list[Photo]], list[str]]:
    """Train, val and test from the two or three splits of a folder, and a line on files that are not used."""
    photos = layout.photos(found)
    if empty := [split for split in SPLITS if split in photos and not photos[split]]:
        raise DataError(f"{shown(found.root)}: no photographs in {', '.join(map(layout.named, empty))} {_why(found)}.")
    if len(photos) == len(SPLITS):
        return {split: photos[split] for split in SPLITS}, []
    (other,) = set(photos) - {"train"}
    unique, repeats = _used_once(photos["train"], hashes)
    if len(unique) < 2:
        folders = [folder for folders in layout.folders.values() for folder in folders]
        refuse_missing(found.root, folders, [split for split in SPLITS if split not in photos])
    train, val = hold_out(unique)
    return {"train": train, "val": val, "test": photos[other]}, repeats


def _explained(layout: Layout) -> list[str]:
    """A line on how folders were assigned to splits, unless it is obvious."""
    if layout.is_plain:
        return []
    if len(layout.folders) == len(SPLITS):
        return [", ".join(f"{layout.named(split)} → {split}" for split in SPLITS)]
    (other,) = set(layout.folders) - {"train"}
    return [f"{layout.named('train')} → train and val (a fifth, by a fixed seed), {layout.named(other)} → test: there "
            f"is no folder for {'val' if other == 'test' else 'test'}"]


def _seeded_splits(found: Scan, photos: list[Photo]) -> dict[str, list[Photo]]:
    if len(photos) < len(SPLITS):
        raise DataError(f"{shown(found.root)}: {len(photos)} different photographs; 3 or more are needed, one each to "
                        f"train, validate and test {_why(found)}.")
    held_out = max(1, round(HELD_OUT * len(photos)))
    mixed = permuted(photos)
    return {"train": mixed[2 * held_out :], "val": mixed[:held_out], "test": mixed[held_out : 2 * held_out]}


def _why(found: Scan) -> str:
    """Explains too few photographs: the files that are not used, and the supported extensions."""
    if any(name.lower().endswith(".tar") for name in found.ignored):
        return "(shards are given as a pattern: 'FOLDER/{000..099}.tar', or 'FOLDER/*.tar')"
    return f"({'; '.join([*found.left_out(0), f'known extensions: {formats.known_extensions()}'])})"


def _used_once(photos: list[Photo], hashes: dict[Place, str]) -> tuple[list[Photo], list[str]]:
    """The photographs without identical copies, which could end up in both train and test."""
    first: dict[str, Photo] = {}
    unique, repeats = [], []
    for photo in photos:
        content = hashes.get(photo.path, photo.name)  # unreadable files are reported when they are decoded
        if content in first:
            repeats.append(f"{photo.name} = {first[content].name}")
        else:
            first[content] = photo
            unique.append(photo)
    if not repeats:
        return unique, []
    return unique, [f"{_count(repeats)} left out: another one has the same content ({first_of(repeats)})"]


def _outside(photos: list[Photo], splits: dict[str, list[Photo]]) -> list[str]:
    used = {photo for split in splits.values() for photo in split}
    outside = [photo.name for photo in photos if photo not in used]
    return [f"{_count(outside)} outside train, val and test and not used ({first_of(outside)})"] if outside else []


def _overlaps(splits: dict[str, list[Photo]], hashes: dict[Place, str]) -> list[str]:
    """A warning for each pair of splits with identical photographs."""
    warnings = []
    for one, other in combinations(SPLITS, 2):
        contents = {hashes[photo.path] for photo in splits[one] if photo.path in hashes}
        common = [photo.name for photo in splits[other] if hashes.get(photo.path) in contents]
        if common:
            are = "photograph is" if len(common) == 1 else "photographs are"
            warnings.append(f"{len(common)} {are} in both {one} and {other} ({first_of(common)}): "
                            "data leakage, the scores are inflated")
    return warnings


def _count(names: list[str]) -> str:
    return "1 photograph is" if len(names) == 1 else f"{len(names)} photographs are"
