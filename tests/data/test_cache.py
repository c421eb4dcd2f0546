"""Decoded once, then mapped; never half, never stale."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from PIL import Image

from inversion import files
from inversion.data import content, decode
from inversion.data.cache import load_cached
from inversion.data.folder import photo_set
from tests.data.caches import NAMES, leftovers, load

Make = Callable[..., list[Path]]


def test_the_pixels_are_the_decoded_photographs_in_order(root: Path, folder: Path) -> None:
    loaded = load(root, folder)
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        names = [name for name in NAMES if name.startswith(split)]
        assert loaded.names(split) == names
        assert len(loaded.pixels(split)) == count
        for name, pixels in zip(names, loaded.pixels(split), strict=True):
            np.testing.assert_array_equal(pixels, decode.decode_photo(root / name, 37))
    assert not leftovers(folder)


def test_a_second_load_decodes_nothing(root: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    first = load(root, folder)
    request.getfixturevalue("no_decoding")
    second = load(root, folder)
    assert second.digest == first.digest
    pairs = zip(first.pixels("train"), second.pixels("train"), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_pixels_are_views_of_the_mapped_file(root: Path, folder: Path) -> None:
    load(root, folder)
    before = pa.total_allocated_bytes()
    pixels = load(root, folder).pixels("train")
    assert all(not photo.flags.owndata and not photo.flags.writeable for photo in pixels)
    assert pa.total_allocated_bytes() - before < pixels[0].nbytes


def test_changed_content_is_noticed(root: Path, folder: Path, make_photos: Make) -> None:
    before = load(root, folder)
    make_photos("train/2.png", root=root)
    after = load(root, folder)
    assert after.digest != before.digest
    assert not np.array_equal(after.pixels("train")[2], before.pixels("train")[2])
    assert np.array_equal(after.pixels("train")[1], before.pixels("train")[1])


def test_a_change_right_after_hashing_is_noticed_whatever_the_clock_shows(root: Path, folder: Path) -> None:
    path = root / "train" / "1.bmp"  # uncompressed: the same size for any content
    Image.new("RGB", (40, 40), "red").save(path)
    before, status = load(root, folder), path.stat()
    Image.new("RGB", (40, 40), "blue").save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if within one tick of the clock
    assert path.stat().st_size == status.st_size
    assert load(root, folder).digest != before.digest


def test_the_digest_is_the_same_wherever_the_folder_lies_and_whatever_names_are(
    root: Path, folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = load(root, folder)
    request.getfixturevalue("no_decoding")
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "val").rename(moved / "valid")
    (moved / "test" / "a.png").rename(moved / "test" / "z.png")
    after = load(moved, folder)
    assert after.digest == before.digest
    assert after.path == before.path
    assert (after.names("val"), after.names("test")) == (["valid/a.png", "valid/b.png"], ["test/z.png"])


def test_the_digest_tells_splits_and_order_apart(root: Path, folder: Path) -> None:
    before = load(root, folder)
    (root / "val" / "b.png").rename(root / "test" / "0.png")  # contents stay in the same order
    moved = load(root, folder)
    (root / "train" / "0.png").rename(root / "train" / "9.png")
    assert len({before.digest, moved.digest, load(root, folder).digest}) == 3


def test_limits_take_the_first_and_the_digest_covers_only_those(root: Path, folder: Path, make_photos: Make) -> None:
    limited = load(root, folder, train=2, val=1, test=0)
    assert limited.names("train") == ["train/0.png", "train/1.png"]
    assert limited.names("val") == ["val/a.png"]
    assert limited.names("test") == ["test/a.png"]
    assert limited.digest != load(root, folder).digest
    make_photos("train/3.png", root=root)
    assert load(root, folder, train=2, val=1, test=0).digest == limited.digest


def test_another_image_size_has_a_cache_of_its_own(root: Path, folder: Path) -> None:
    small = load(root, folder)
    Image.new("RGB", (80, 80)).save(root / "test" / "a.png")
    for path in root.rglob("*.png"):
        Image.open(path).resize((80, 80)).save(path)
    large = load(root, folder, image_size=64)
    assert (small.pixels("val")[0].shape, large.pixels("val")[0].shape) == ((37, 44, 3), (73, 73, 3))
    assert load(root, folder, image_size=32).pixels("val")[0].shape == (37, 37, 3)


def test_progress_counts_every_photograph(root: Path, folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    load_cached(photo_set(root, folder), 32, folder, lambda *values: told.append(values))
    assert [values[1:] for values in told if values[0] == "decoding photographs"] == [(n, 7) for n in range(1, 8)]


def test_unchanged_files_are_not_read_again(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in root.rglob("*.png"):
        os.utime(path, ns=(0, 10**18))
    read: list[Path] = []

    def count(path: Path) -> str:
        read.append(path)
        return files.file_sha256(path)

    monkeypatch.setattr(content, "file_sha256", count)
    before = load(root, folder)
    assert len(read) == 2 * len(NAMES)  # again after decoding, in case that it changed
    assert load(root, folder).digest == before.digest
    assert len(read) == 2 * len(NAMES)
    os.utime(root / "val" / "a.png", ns=(0, 10**18 + 1))
    load(root, folder)
    assert read[2 * len(NAMES) :] == [root / "val" / "a.png"]
