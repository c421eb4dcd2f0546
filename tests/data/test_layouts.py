"""Data sets as they are handed around: which folder is which split, and nothing pooled in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inversion.data.cache import load_cached
from inversion.data.div2k import ARCHIVES, Archive
from inversion.data.div2k import photo_set as div2k_set
from inversion.data.folder import photo_set
from inversion.data.splits import PhotoSet
from inversion.errors import DataError

Make = Callable[..., list[Path]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def find(root: Path) -> PhotoSet:
    return photo_set(root, root.parent / "cache")


def folders(photos: PhotoSet) -> dict[str, set[str]]:
    return {split: {str(Path(photo.name).parent) for photo in members} for split, members in photos.splits.items()}


def several(folder: str, count: int = 5) -> list[str]:
    return [f"{folder}/{number}.png" for number in range(count)]


@pytest.mark.parametrize(("train", "val", "test"), [
    ("train2017", "val2017", "test2017"),
    ("training", "validation", "testing"),
    ("Train", "Dev", "Test"),
    ("train_images", "val_images", "test_images"),
    ("birds-train", "birds-valid", "birds-test"),
    ("trainset", "valset", "testset"),
    ("images/train", "images/val", "images/test"),
    ("data/images/train", "data/images/val", "data/images/test"),
    ("train/n01440764", "val/n01440764", "test/n01440764"),
    ("bottle/train/good", "bottle/val/good", "bottle/test/broken"),
    ("DIV2K/DIV2K_train_HR", "DIV2K/DIV2K_valid_HR", "DIV2K/DIV2K_test_HR"),
])
def test_folders_that_are_called_like_splits_are_those(root: Path, make_photos: Make, train: str, val: str, test: str
                                                       ) -> None:
    make_photos(*several(train), *several(val), *several(test))
    photos = find(root)
    assert folders(photos) == {"train": {train}, "val": {val}, "test": {test}}
    assert bool(photos.remarks) != train.startswith("train/"), "what is called train, val and test needs no word"


@pytest.mark.parametrize(("train", "other"), [("train2017", "val2017"), ("train", "test"), ("train", "val"),
                                              ("images/train", "images/val"), ("DIV2K_train_HR", "DIV2K_valid_HR")])
def test_of_train_and_one_other_the_other_is_the_test_set_and_train_is_divided(
    root: Path, make_photos: Make, train: str, other: str
) -> None:
    make_photos(*several(train, 20), *several(other))
    photos = find(root)
    assert folders(photos) == {"train": {train}, "val": {train}, "test": {other}}
    assert {split: len(members) for split, members in photos.splits.items()} == {"train": 16, "val": 4, "test": 5}
    assert photos.remarks == [f"{train}/ → train and val (a fifth, by a fixed seed), {other}/ → test: there is no "
                              f"folder for {'val' if other == 'test' else 'test'}"]


def test_a_download_of_div2k_is_split_as_div2k_is(root: Path, make_photos: Make, tmp_path: Path) -> None:
    make_photos(*(f"DIV2K/DIV2K_train_HR/{number:04}.png" for number in range(1, 11)),
                *(f"DIV2K/DIV2K_valid_HR/{number:04}.png" for number in range(11, 14)))
    low = [*(f"DIV2K/DIV2K_train_LR_bicubic/X2/{number:04}x2.png" for number in range(1, 11)),
           *(f"DIV2K/DIV2K_valid_LR_bicubic/X2/{number:04}x2.png" for number in range(11, 14))]
    make_photos(*low)
    photos = find(root)
    archives = tuple(Archive(archive.folder, "", 0, "", first, count)
                     for archive, first, count in zip(ARCHIVES, (1, 11), (10, 3), strict=True))
    official = div2k_set(root, archives)  # type: ignore[arg-type]
    cache = tmp_path / "cache"
    assert load_cached(photos, 32, cache).digest == load_cached(official, 32, cache).digest
    assert photos.remarks[0] == ("13 photographs in DIV2K/DIV2K_train_LR_bicubic/, DIV2K/DIV2K_valid_LR_bicubic/ are "
                                 "left out: low-resolution copies of DIV2K/DIV2K_train_HR/, DIV2K/DIV2K_valid_HR/")


@pytest.mark.parametrize(("high", "low"), [("HR", "LR"), ("Set14/HR", "Set14/LRbicx2"), ("hr", "lr_x4")])
def test_low_resolution_copies_are_left_out_of_a_folder_without_splits_too(
    root: Path, make_photos: Make, high: str, low: str
) -> None:
    make_photos(*several(high, 10), *several(low, 10))
    photos = find(root)
    assert set().union(*folders(photos).values()) == {high}
    assert "10 photographs" in photos.remarks[0]


def test_several_sizes_of_the_same_scenes_are_refused(root: Path, make_photos: Make) -> None:
    make_photos(*several("DIV2K_train_LR_bicubic/X2"), *several("DIV2K_train_LR_bicubic/X4"))
    with pytest.raises(DataError, match=r"X2/, DIV2K_train_LR_bicubic/X4/ hold the same scenes in several sizes"):
        find(root)


def test_low_resolution_alone_is_a_set_like_any_other(root: Path, make_photos: Make) -> None:
    make_photos(*several("LR", 10))
    assert sum(map(len, find(root).splits.values())) == 10


def test_a_train_folder_alone_is_split_70_15_15(root: Path, make_photos: Make) -> None:
    make_photos(*several("train/a", 10), *several("train/b", 10))
    photos = find(root)
    assert [len(members) for members in photos.splits.values()] == [14, 3, 3]
    assert photos.remarks == ["train/ has no test set beside it: split 70/15/15 by a fixed seed"]


def test_masks_beside_the_photographs_are_not_used(root: Path, make_photos: Make) -> None:
    make_photos(*(name for kind in ("images", "annotations") for split in ("training", "validation")
                  for name in several(f"{kind}/{split}")))
    photos = find(root)
    assert folders(photos) == {"train": {"images/training"}, "val": {"images/training"}, "test": {"images/validation"}}
    assert "10 photographs are outside train, val and test and not used" in photos.warnings[0]


@pytest.mark.parametrize("folder", ["Test shots", "TRAINS", "trains", "Val Thorens", "deviation", "2019/test",
                                    "contest", "Training camp"])
def test_a_folder_that_is_only_called_so_by_chance_is_a_folder(root: Path, make_photos: Make, folder: str) -> None:
    make_photos(*several(folder), *several("Holiday"))
    photos = find(root)
    assert sum(map(len, photos.splits.values())) == 10
    (remark,) = photos.remarks
    assert f"{folder}/" in remark
    assert remark.endswith("all photographs are one set, split 70/15/15 by a fixed seed")


def test_photographs_in_one_folder_need_no_remark(root: Path, make_photos: Make) -> None:
    make_photos(*several("celeba/celeba", 10))
    assert not find(root).remarks


def test_splits_are_found_at_any_depth(root: Path, make_photos: Make) -> None:
    deep = "/".join("abcdefgh")
    make_photos(*several(f"{deep}/train"), *several(f"{deep}/val"))
    assert folders(find(root)) == {"train": {f"{deep}/train"}, "val": {f"{deep}/train"}, "test": {f"{deep}/val"}}


@pytest.mark.parametrize(("names", "message"), [
    (("train2014", "train2017", "val2014"), r"both train2014/ and train2017/: keep one"),
    (("dev", "train", "val"), r"both dev/ and val/: keep one"),
    (("birds_train", "birds_test", "cats_train", "cats_test"), r"several sets of splits \(birds_test/.*cats_train/\)"),
    (("birds_train", "val2017"), r"birds_train/, val2017/ are named like splits, but of different datasets: rename"),
    (("val2017", "test2017"), r"has test2017/, val2017/ but no train/"),
    (("test", "cats"), r"has test/ but no train/ and no val/"),
    (("train", "cats"), r"has train/ but no val/ and no test/"),
])
def test_what_can_be_meant_in_two_ways_is_refused(root: Path, make_photos: Make, names: tuple[str, ...], message: str
                                                  ) -> None:
    make_photos(*(name for folder in names for name in several(folder)))
    with pytest.raises(DataError, match=message):
        find(root)


def test_a_split_without_photographs_is_named_by_its_folder(root: Path, make_photos: Make) -> None:
    make_photos(*several("train2017"), *several("val2017"))
    (root / "test2017").mkdir()
    with pytest.raises(DataError, match="no photographs in test2017/"):
        find(root)


def test_one_folder_for_two_splits_is_called_that(root: Path, make_photos: Make) -> None:
    make_photos(*several("all"), root=root.parent)
    root.mkdir()
    for split in ("train", "val", "test"):
        (root / split).symlink_to(root.parent / "all")
    with pytest.raises(DataError, match=r"test/ and train/ are the same folder \(.*/all\)"):
        find(root)


@pytest.mark.parametrize(("target", "how"), [("train", "are the same folder"), ("train/deep", "are nested")])
def test_a_split_that_is_a_link_into_another_is_refused(root: Path, make_photos: Make, target: str, how: str) -> None:
    make_photos(*several("train/deep"), *several("train"), *several("test"))
    (root / "val").symlink_to(root / target)
    with pytest.raises(DataError, match=rf"train/ and val/ .*{how}"):
        find(root)


def test_a_link_beside_the_splits_takes_nothing_from_them(root: Path, make_photos: Make) -> None:
    make_photos(*several("train"), *several("val"), *several("test"))
    (root / "images").symlink_to(root / "train")  # comes first by its name
    assert folders(find(root))["train"] == {"train"}


def test_repeats_within_train_do_not_stand_in_train_and_val(root: Path, make_photos: Make) -> None:
    make_photos(*several("train", 10), *several("test"))
    for number in range(10):
        shutil.copy(root / "train" / f"{number}.png", root / "train" / f"copy{number}.png")
    photos = find(root)
    assert [len(photos.splits[split]) for split in ("train", "val")] == [8, 2]
    assert "10 photographs are left out: another one has the same content" in photos.warnings[0]


def test_train_val_and_test_are_the_splits_whatever_lies_beside_and_in_them(root: Path, make_photos: Make) -> None:
    make_photos(*(name for split in ("train", "val", "test") for kind in ("HR", "LR/X2", "LR/X4")
                  for name in several(f"{split}/{kind}")))
    before = folders(find(root))
    assert before["val"] == {"val/HR", "val/LR/X2", "val/LR/X4"}
    for beside in ("training", "dev", "birds_train", "birds_test", "HR", "LR", "train2017"):
        make_photos(*several(beside))
    photos = find(root)
    assert folders(photos) == before
    assert not photos.remarks
    assert "35 photographs are outside train, val and test and not used" in photos.warnings[0]
