"""Near-duplicates across splits: found for copies of a scene, and for nothing else."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inversion.data import duplicates
from inversion.data.cache import PhotoCache, load_cached
from inversion.data.duplicates import across_splits, load_prints, near_duplicates, with_training
from inversion.data.folder import photo_set
from inversion.data.sample import photo_set as sample_set

Make = Callable[..., list[Path]]
Photograph = Callable[[str, int], np.ndarray]

SIZE = 64


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


def brighter(image: Image.Image) -> Image.Image:
    return image.point(lambda value: min(255, round(1.2 * value)))  # type: ignore[no-untyped-call, unused-ignore]


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed": compressed,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "a third of the size": lambda image: image.resize((image.width // 3, image.height // 3)),
    "brighter": brighter,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "its centre": lambda image: image.crop((15, 15, image.width - 15, image.height - 15)),
    "a corner": lambda image: image.crop((0, 0, round(0.9 * image.width), round(0.88 * image.height))),
    "a square": lambda image: image.crop(((image.width - image.height) // 2, 0,
                                          (image.width + image.height) // 2, image.height)),
}


@pytest.fixture
def root(tmp_path: Path, photograph: Photograph) -> Path:
    """Different photographs, 3:2, in three splits."""
    folder = tmp_path / "photos"
    names = {"train": ("astronaut", "coffee", "flower", "retina"), "val": ("rocket",), "test": ("chelsea", "china")}
    for split, scenes in names.items():
        (folder / split).mkdir(parents=True)
        for scene in scenes:
            Image.fromarray(photograph(scene, 300)[:200]).save(folder / split / f"{scene}.png")
    return folder


def load(root: Path) -> PhotoCache:
    cache = root.parent / "cache"
    return load_cached(photo_set(root, cache), SIZE, cache)


def test_different_scenes_are_no_duplicates(root: Path) -> None:
    assert across_splits(load(root)) == []


def test_the_sample_photographs_have_none(tmp_path: Path) -> None:
    assert across_splits(load_cached(sample_set(), SIZE, tmp_path)) == []


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("scene", ["astronaut", "coffee", "flower"])
def test_a_copy_of_a_scene_in_another_split_is_found(root: Path, copy: str, scene: str) -> None:
    with Image.open(root / "train" / f"{scene}.png") as image:
        COPIES[copy](image).save(root / "test" / "copy.png")
    assert across_splits(load(root)) == [f"data leakage: 1 photograph in test is a near-duplicate of photographs in "
                                         f"train (test/copy.png ~ train/{scene}.png): the scores are inflated"]


def test_the_original_of_a_crop_is_found_too(root: Path) -> None:
    with Image.open(root / "train" / "coffee.png") as image:
        whole = image.copy()
    whole.save(root / "val" / "whole.png")
    COPIES["a corner"](whole).save(root / "train" / "coffee.png")
    warning, = across_splits(load(root))
    assert "1 photograph in val is a near-duplicate" in warning
    assert "val/whole.png ~ train/coffee.png" in warning


def test_several_are_counted_and_the_first_are_named(root: Path) -> None:
    for name, copy in COPIES.items():
        with Image.open(root / "train" / "coffee.png") as image:
            copy(image).save(root / "test" / f"{name}.png")
    warning, = across_splits(load(root))
    assert "8 photographs in test are near-duplicates" in warning
    assert warning.count(" ~ ") == 5
    assert "and 3 more" in warning


def test_equal_photographs_are_told_of_once(root: Path) -> None:
    shutil.copy(root / "train" / "coffee.png", root / "test")
    assert across_splits(load(root)) == []
    assert "data leakage" in photo_set(root, root.parent / "cache").warnings[0]


def test_copies_within_a_split_are_nobodys_business(root: Path) -> None:
    with Image.open(root / "train" / "coffee.png") as image:
        compressed(image).save(root / "train" / "copy.png")
    assert across_splits(load(root)) == []


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_pictures_are_like_each_other_and_no_duplicates(root: Path, level: int) -> None:
    for split in ("train", "test"):
        noise = np.random.RandomState(len(split)).normal(level, 3, (200, 300, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(root / split / "flat.png")
    assert across_splits(load(root)) == []


def test_textures_of_one_kind_are_different(root: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        for repeat in range(5):
            noise = np.random.RandomState(10 * number + repeat).randint(0, 256, (200, 300, 3)).astype(np.uint8)
            Image.fromarray(noise).resize((600, 400)).save(root / split / f"noise{repeat}.png")
    assert across_splits(load(root)) == []


def test_hashes_are_made_once_for_a_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Image.open(root / "train" / "coffee.png") as image:
        compressed(image).save(root / "test" / "copy.png")
    before = across_splits(load(root))

    def refuse(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(duplicates, "hashes", refuse)
    assert across_splits(load(root)) == before != []


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_broken_file_of_hashes_is_made_anew(root: Path, content: bytes) -> None:
    load_prints(load(root))
    path, = (root.parent / "cache").glob("*.npy")
    good = path.read_bytes()
    path.write_bytes(content)
    load_prints(load(root))
    assert path.read_bytes() == good


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = load(root)

    def refuse(*_: object) -> None:
        raise OSError("read-only")

    monkeypatch.setattr("inversion.files.os.replace", refuse)
    with caplog.at_level(logging.WARNING):
        assert across_splits(cache) == []
    assert "hashed again next time" in caplog.text


def test_bits_are_counted_without_numpy_2_as_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, 2**64 - 1, (7, 5), np.uint64)
    expected = [[int(code).bit_count() for code in row] for row in codes]
    assert duplicates._popcount(codes).tolist() == expected
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert duplicates._popcount(codes).tolist() == expected


def test_photographs_to_score_are_compared_with_those_of_the_training(root: Path, tmp_path: Path) -> None:
    trained = load_prints(load(root))
    other = tmp_path / "other" / "photos"
    for split in ("train", "val", "test"):
        shutil.copytree(root / "val", other / split)
    shutil.copy(root / "train" / "coffee.png", other / "test")
    with Image.open(root / "train" / "flower.png") as image:
        compressed(image).save(other / "test" / "copy.png")
    scored = load_prints(load(other))["test"]
    assert with_training(scored, trained["train"]) == [
        "data leakage: 2 photographs of 3 are near-duplicates of the run's training photographs (test/coffee.png ~ "
        "train/coffee.png, test/copy.png ~ train/flower.png): the scores are inflated"]
    assert near_duplicates(trained["test"], scored) == {}
