"""A folder of photographs to three splits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inversion.data.folder import photo_set
from inversion.data.splits import PhotoSet
from inversion.errors import DataError

Make = Callable[..., list[Path]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def find(root: Path) -> PhotoSet:
    return photo_set(root, root.parent / "cache")


def names(photos: PhotoSet) -> dict[str, list[str]]:
    return {split: [photo.name for photo in members] for split, members in photos.splits.items()}


def everything(photos: PhotoSet) -> list[str]:
    return sorted(name for members in names(photos).values() for name in members)


@pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (20, (14, 3, 3)), (100, (70, 15, 15))])
def test_photographs_are_split_70_15_15_and_every_split_gets_one(
    root: Path, make_photos: Make, count: int, sizes: tuple[int, ...]
) -> None:
    make_photos(*(f"{number:03d}.png" for number in range(count)), width=8, height=8)
    photos = find(root)
    assert tuple(map(len, photos.splits.values())) == sizes
    assert everything(photos) == [f"{number:03d}.png" for number in range(count)]


def test_the_split_is_the_same_every_time_and_wherever_the_folder_lies(root: Path, make_photos: Make) -> None:
    make_photos(*(f"sub{number % 3}/{number}.png" for number in range(20)))
    before = names(find(root))
    assert names(find(root)) == before
    moved = root.rename(root.with_name("moved"))
    assert names(find(moved)) == before


def test_the_split_is_this_one_for_ever(root: Path, make_photos: Make) -> None:
    make_photos(*(f"{number}.png" for number in range(8)))
    splits = names(find(root))
    assert splits["val"] == ["4.png"]
    assert splits["test"] == ["6.png"]
    assert splits["train"] == ["0.png", "3.png", "2.png", "5.png", "7.png", "1.png"]


def test_fewer_than_three_photographs_are_refused(root: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png")
    with pytest.raises(DataError, match="2 different photographs; 3 or more"):
        find(root)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_subfolders_are_the_splits(root: Path, make_photos: Make, val: str) -> None:
    make_photos("train/b.png", "train/deep/a.jpg", f"{val}/c.png", "test/d.png")
    assert names(find(root)) == {"train": ["train/b.png", "train/deep/a.jpg"], "val": [f"{val}/c.png"],
                                 "test": ["test/d.png"]}


def test_a_missing_split_is_named(root: Path, make_photos: Make) -> None:
    make_photos("train/a.png", "test/b.png")
    with pytest.raises(DataError, match=r"has test/, train/ but no val/"):
        find(root)


def test_a_split_without_photographs_is_named(root: Path, make_photos: Make) -> None:
    make_photos("train/a.png", "test/b.png")
    (root / "val").mkdir()
    (root / "val" / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="no photographs in val"):
        find(root)


def test_two_folders_for_one_split_are_refused(root: Path, make_photos: Make) -> None:
    make_photos("train/a.png", "test/b.png", "val/c.png", "valid/d.png")
    with pytest.raises(DataError, match="both val/ and valid/"):
        find(root)


def test_other_files_are_listed_as_ignored_and_hidden_ones_are_not(root: Path, make_photos: Make) -> None:
    make_photos("a.png", "B.JPG", "c.png", ".hidden.png", ".cache/d.png")
    (root / "list.csv").write_text("x")
    photos = find(root)
    assert everything(photos) == ["B.JPG", "a.png", "c.png"]
    assert photos.ignored == ["list.csv"]


def test_photographs_beside_the_splits_are_warned_about(root: Path, make_photos: Make) -> None:
    make_photos("train/a.png", "val/b.png", "test/c.png", "other/d.png")
    assert find(root).warnings == ["1 photograph is outside train, val and test and not used (other/d.png)"]


def test_identical_photographs_are_used_once(root: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png", "c.png")
    shutil.copy(root / "a.png", root / "z.png")
    photos = find(root)
    assert everything(photos) == ["a.png", "b.png", "c.png"]
    assert photos.warnings == ["1 photograph is left out: another one has the same content (z.png = a.png)"]


def test_repeats_do_not_count_towards_the_three(root: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png")
    shutil.copy(root / "a.png", root / "z.png")
    with pytest.raises(DataError, match="2 different photographs"):
        find(root)


def test_a_photograph_in_two_given_splits_is_warned_about(root: Path, make_photos: Make) -> None:
    make_photos("train/a.png", "train/b.png", "val/c.png", "test/d.png")
    shutil.copy(root / "train" / "a.png", root / "test" / "x.png")
    shutil.copy(root / "train" / "b.png", root / "test" / "y.png")
    photos = find(root)
    assert len(photos.splits["test"]) == 3
    assert photos.warnings == ["2 photographs are in both train and test (test/x.png, test/y.png): "
                               "data leakage, the scores are inflated"]


def test_a_link_to_nowhere_is_kept_so_that_it_is_reported(root: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png", "c.png")
    (root / "lost.png").symlink_to(root / "nowhere.png")
    assert "lost.png" in everything(find(root))


def test_folders_that_link_in_a_circle_end(root: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png", "sub/c.png")
    (root / "sub" / "back").symlink_to(root)
    assert everything(find(root)) == ["a.png", "b.png", "sub/c.png"]
