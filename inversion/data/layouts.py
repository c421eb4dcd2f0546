"""Detection of split folders in the layouts of common datasets.

``train2017/`` beside ``val2017/`` (COCO), ``images/train`` (YOLO), ``train/CLASS`` and ``val/CLASS`` (ImageNet),
``DIV2K_train_HR`` beside ``DIV2K_valid_HR``, ``CLASS/train`` and ``CLASS/test`` (MVTec).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from inversion.data.scan import Scan
from inversion.data.splits import SPLITS, Photo
from inversion.errors import DataError
from inversion.files import shown
from inversion.text import first_of

Parts = tuple[str, ...]
"""A folder as path parts relative to the root."""

EXACT = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names that always mean a split, whatever other folders there are."""

_WORDS = {**EXACT, "training": "train", "trainset": "train", "trn": "train", "dev": "val", "devel": "val",
          "valset": "val", "testing": "test", "testset": "test", "tst": "test", "eval": "test", "evaluation": "test"}
_USUAL = frozenset({"hr", "set", "images", "image", "imgs", "img", "data", "dataset", "photos", "pictures", "split"})
"""Other words in a folder's name that do not distinguish datasets; digits are ignored too."""

_ANNOTATIONS = frozenset({"annotations", "annotation", "labels", "label", "masks", "mask", "gtfine", "gtcoarse",
                          "ground_truth", "groundtruth", "groundtruths"})

_HIGH = re.compile(r"(?<![A-Za-z])(HR|hr|Hr)(?![A-Za-z])")
_LOW = re.compile(r"(?<![A-Za-z])(LR(?![A-Z])|lr(?![a-z])|Lr(?![a-z]))")
_SCALE = re.compile(r"[xX]\d")


@dataclass(frozen=True)
class Layout:
    """The folders of each split that was found; other folders are not used."""

    folders: Mapping[str, list[Parts]]
    depth: int

    @property
    def is_plain(self) -> bool:
        """Whether it is ``train``, ``val`` and ``test`` directly below the root, which needs no remark."""
        names = [folder[0].lower() for folders in self.folders.values() for folder in folders]
        return self.depth == 0 and len(self.folders) == len(SPLITS) and all(name in EXACT for name in names)

    def photos(self, found: Scan) -> dict[str, list[Photo]]:
        """The photographs of each split."""
        split_of = {folder: split for split, folders in self.folders.items() for folder in folders}
        photos: dict[str, list[Photo]] = {split: [] for split in self.folders}
        for photo in found.photos:
            if split := split_of.get(found.parts(photo)[: self.depth + 1]):
                photos[split].append(photo)
        return photos

    def named(self, split: str) -> str:
        """A split's folders, for a message."""
        return names_of(self.folders[split])


def find_layout(found: Scan) -> tuple[Layout | None, list[str]]:
    """The splits of a folder, or None if it has none; and remarks on photographs that were removed from ``found``.

    Raises:
        DataError: folders are named like splits but are incomplete or ambiguous.
    """
    exact: dict[str, list[Parts]] = defaultdict(list)
    for folder in sorted(folder for folder in found.folders if len(folder) == 1 and folder[0].lower() in EXACT):
        exact[EXACT[folder[0].lower()]].append(folder)
    if len(exact) == len(SPLITS):  # then other folders and subfolders do not matter
        return _checked(found.root, Layout(exact, 0)), []
    remarks = _leave_out_copies(found)
    return _search(found), remarks


def _search(found: Scan) -> Layout | None:
    """The splits closest to the root, for a folder without all of ``train``, ``val`` and ``test``."""
    for depth in range(max(map(len, found.folders), default=0)):
        groups = _groups(found, depth)
        whole = [group for group in groups.values() if "train" in group and len(group) > 1]
        if len(whole) > 1:
            sets = "; ".join(names_of(folder for folders in group.values() for folder in folders) for group in whole)
            raise DataError(f"{shown(found.root)} has several sets of splits ({sets}): give the folder of one of "
                            "them, or a folder with links to one, named train/, val/ and test/.")
        if whole:
            return _checked(found.root, Layout(whole[0], depth))
        if depth == 0 and (alone := _partial(found, groups)):
            return alone
    return None


def names_of(folders: Iterable[Parts]) -> str:
    """The first few folders, as ``train/, images/val/``, for a message."""
    return first_of(sorted({shown("/".join(folder)) + "/" for folder in folders}))


def _leave_out_copies(found: Scan) -> list[str]:
    """Removes low-resolution copies of photographs from ``found``; returns remarks on them.

    Raises:
        DataError: the same scenes in several sizes, none of them marked as high resolution.
    """
    low = [photo for photo in found.photos if any(_LOW.search(part) for part in found.parts(photo))]
    high = [photo for photo in found.photos if any(_HIGH.search(part) for part in found.parts(photo))]
    remarks = []
    if low and set(high) - set(low):
        gone = set(low)
        found.photos[:] = [photo for photo in found.photos if photo not in gone]
        found.folders[:] = [folder for folder in found.folders if not any(map(_LOW.search, folder))]
        places = names_of(_up_to(found.parts(photo), _LOW) for photo in low)
        originals = names_of(_up_to(found.parts(photo), _HIGH) for photo in high if photo not in gone)
        remarks.append(f"{len(low)} photographs in {places} are left out: low-resolution copies of {originals}")
    sizes: dict[Parts, set[str]] = defaultdict(set)
    for photo in found.photos:
        parts = found.parts(photo)
        for index, part in enumerate(parts):
            if _SCALE.fullmatch(part):
                sizes[parts[:index]].add(part)
    for parent, names in sizes.items():
        if len(names) > 1:
            folders = [(*parent, name) for name in sorted(names)]
            raise DataError(f"{shown(found.root)}: {names_of(folders)} hold the same scenes in several sizes, which "
                            "would be in both train and test: give one of these folders.")
    return remarks


def _groups(found: Scan, depth: int) -> dict[Parts, dict[str, list[Parts]]]:
    """The folders at a depth with the name of a split, grouped by the rest of the name and then by split."""
    used = {found.parts(photo)[:length] for photo in found.photos for length in range(len(found.parts(photo)) + 1)}
    groups: dict[Parts, dict[str, list[Parts]]] = defaultdict(lambda: defaultdict(list))
    for folder in sorted(folder for folder in found.folders if len(folder) == depth + 1):
        split, rest = _split_of(folder[-1])
        if split and folder[:-1] in used and not any(part.lower() in _ANNOTATIONS for part in folder[:-1]):
            groups[rest][split].append(folder)
    return groups


def _split_of(name: str) -> tuple[str, Parts]:
    """The split in a folder's name, empty if there is none, and the words that distinguish its dataset from others."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_]+", name)]
    for index, word in enumerate(words):
        if word in _WORDS:
            others = (*words[:index], *words[index + 1:])
            return _WORDS[word], tuple(other for other in others if other not in _USUAL)
    return "", ()


def _partial(found: Scan, groups: Mapping[Parts, Mapping[str, list[Parts]]]) -> Layout | None:
    """Handles folders directly below the root that are named like splits but are not train and another one.

    Returns:
        A layout if there is only train, with all photographs in it; None if the names do not mean splits.

    Raises:
        DataError: the folders are incomplete or ambiguous.
    """
    bare = groups.get((), {})
    there = [folder for group in groups.values() for folders in group.values() for folder in folders]
    every = {split for group in groups.values() for split in group}
    exact = [folder for folder in there if folder[0].lower() in EXACT]
    if list(bare) == ["train"] and len(bare["train"]) == 1 and not _outside(found, bare["train"][0]):
        return Layout(dict(bare), 0)
    if bare and "train" in every and len(every) > 1:
        raise DataError(f"{shown(found.root)}: {names_of(there)} are named like splits, but of different datasets: "
                        "rename them train/, val/ and test/, or make a folder with links of these names.")
    doubtful = exact or next((folders for group in groups.values() if len(group) > 1 for folders in group.values()), [])
    if doubtful:
        refuse_missing(found.root, there, [split for split in SPLITS if split not in every or split not in bare])
    return None


def refuse_missing(root: Path, there: Iterable[Parts], missing: Iterable[str]) -> None:
    """Raises a DataError for splits without a folder."""
    absent = " and no ".join(f"{split}/" for split in missing)
    raise DataError(f"{shown(root)} has {names_of(there)} but no {absent}: needed are train/ with 2 photographs or "
                    "more and test/ (val/ can be held out from train/), or no such folder at all, to have the "
                    "photographs split 70/15/15.")


def _outside(found: Scan, folder: Parts) -> bool:
    return any(found.parts(photo)[:1] != folder for photo in found.photos)


def _checked(root: Path, layout: Layout) -> Layout:
    """The layout, after checking that the splits do not share folders."""
    _refuse_two_for_one(root, layout)
    _refuse_shared(root, layout)
    return layout


def _refuse_two_for_one(root: Path, layout: Layout) -> None:
    for folders in layout.folders.values():
        for one, other in combinations(folders, 2):
            if one[:-1] == other[:-1]:
                raise DataError(f"{shown(root)} has both {names_of([one])} and {names_of([other])}: keep one of them.")


def _refuse_shared(root: Path, layout: Layout) -> None:
    """Raises a DataError if two splits are the same folder through links, or one contains the other."""
    real = [(split, folder, root.joinpath(*folder).resolve())
            for split, folders in layout.folders.items() for folder in folders]
    for (split, folder, path), (other_split, other, other_path) in combinations(real, 2):
        if split != other_split and (path in (other_path, *other_path.parents) or other_path in path.parents):
            how = "are the same folder" if path == other_path else "are nested"
            raise DataError(f"{shown(root)}: {names_of([folder])} and {names_of([other])} {how} ({shown(path)}): "
                            f"{split} and {other_split} need photographs of their own.")


def _up_to(parts: Parts, pattern: re.Pattern[str]) -> Parts:
    """A folder's path up to the part that matches the pattern."""
    index = next(index for index, part in enumerate(parts) if pattern.search(part))
    return parts[: index + 1]
