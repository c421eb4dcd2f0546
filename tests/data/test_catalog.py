"""What ``data`` can name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from inversion.data import datasets as catalog
from inversion.data import div2k, sample
from inversion.errors import DataError, RequestError


def test_the_sample_has_12_different_photographs_that_can_be_decoded(tmp_path: Path) -> None:
    from inversion.data.cache import load_cached

    photos = catalog.find_photo_set("sample", tmp_path)
    assert [len(photos.splits[split]) for split in ("train", "val", "test")] == [8, 2, 2]
    assert (photos.name, photos.crops_per_image) == ("sample", 16)
    assert photos.note
    cache = load_cached(photos, 32, tmp_path)
    assert len({pixels.tobytes() for split in photos.splits for pixels in cache.pixels(split)}) == 12


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="scikit-image is not installed"):
        sample.photo_set()


def test_a_sample_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sample._FILES, "val", (("skimage", "data/moon_landing.png"),))
    with pytest.raises(DataError, match=r"scikit-image as installed has no .*moon_landing\.png"):
        sample.photo_set()


def test_a_folder_is_found_by_relative_path_and_below_home(
    tmp_path: Path, make_photos: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_photos("a.png", "b.png", "c.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("photos", "./photos", "~/photos", str(tmp_path / "photos")):
        assert catalog.find_photo_set(name, tmp_path / "data").name == "photos"


def test_an_unknown_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'smaple'.*sample, div2k, a folder.*Did you mean 'sample'\?"):
        catalog.find_photo_set("smaple", tmp_path)


@pytest.mark.parametrize("name", ["~nobody-of-that-name/x", "a\0b"])
def test_an_impossible_path_is_an_unknown_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="Known: sample"):
        catalog.find_photo_set(name, tmp_path)


def test_a_name_that_no_file_can_have_is_told_as_that(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^data: .*: File name too long"):
        catalog.find_photo_set("x" * 5000, tmp_path)


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.png").touch()
    with pytest.raises(RequestError, match="is a file"):
        catalog.find_photo_set(str(tmp_path / "photo.png"), tmp_path)


def test_div2k_that_is_absent_is_refused_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/DIV2K .*0 of 800.*inversion data div2k"):
        catalog.find_photo_set("div2k", tmp_path)


def test_auto_is_div2k_only_when_all_of_it_is_on_disk(tmp_path: Path) -> None:
    for archive in div2k.ARCHIVES:
        assert catalog.resolve_auto(tmp_path) == "sample"
        folder = tmp_path / "DIV2K" / archive.folder
        folder.mkdir(parents=True)
        for name in archive.names():
            assert not div2k.is_present(tmp_path)
            (folder / name).touch()
    assert catalog.resolve_auto(tmp_path) == "div2k"
    splits = catalog.find_photo_set("div2k", tmp_path).splits
    assert {split: len(photos) for split, photos in splits.items()} == {"train": 640, "val": 160, "test": 100}
    assert len({photo.path for photos in splits.values() for photo in photos}) == 900
    assert [photo.path.name for photo in splits["test"]] == [f"{number:04d}.png" for number in range(801, 901)]
    assert [photo.path.name for photo in splits["val"][:4]] == ["0502.png", "0113.png", "0129.png", "0750.png"]


def test_the_data_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_DATA", "~/somewhere")
    assert catalog.default_data_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("INVERSION_DATA")
    assert catalog.default_data_dir().name == "inversion"


def test_importing_the_package_is_light() -> None:
    code = ("import sys, inversion.data;"
            "sys.exit(any(m in sys.modules for m in ('torch', 'pyarrow', 'PIL', 'requests')))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_finding_the_sample_imports_none_of_its_packages() -> None:
    code = ("import sys, pathlib, inversion.data; inversion.data.find_photo_set('sample', pathlib.Path('x'));"
            "sys.exit(any(m in sys.modules for m in ('skimage', 'sklearn', 'matplotlib', 'torch')))")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
