"""Hugging Face datasets as a data set: local ones, since the Hub cannot be reached here."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from inversion.data import datasets as catalog
from inversion.data import hub
from inversion.data.cache import load_cached
from inversion.data.splits import SPLITS
from inversion.errors import DataError, RequestError

Photos = Callable[..., list[Path]]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package ``datasets`` with a cache of its own, offline."""
    datasets = pytest.importorskip("datasets", reason="the extra inversion[datasets] is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    return datasets


def table(library: Any, files: list[Path], **columns: list[Any]) -> Any:
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    features = {"image": library.Image(), **{name: library.Value("int32") for name in columns}}
    return library.Dataset.from_dict({"image": images, **columns}, features=library.Features(features))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("data", "parts"), [
    ("hf:cifar10", ("cifar10", None, None)), ("hf:a/b@v1:small", ("a/b", "v1", "small")),
    ("hf:a/b:small", ("a/b", None, "small")), ("hf:a/b@v1", ("a/b", "v1", None)),
])
def test_a_name_has_a_revision_and_a_configuration(data: str, parts: tuple[str | None, ...]) -> None:
    request = hub.parse(data)
    assert (request.name, request.revision, request.config, request.folder) == (*parts, None)
    assert str(request) == data


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("data", "message"), [
    ("hf:", "expected hf:NAME"), ("hf:a b", "expected hf:NAME"), ("hf:a@", "expected hf:NAME"),
    ("hf:/nowhere", "no folder /nowhere"), ("hf:/@v1", "has no revisions"), ("hf://datasets/a", "are written hf:NAME"),
    ("datasets:a", "are written hf:NAME"), ("tfds:a", "are not read from tfds"),
])
def test_other_forms_are_refused_before_anything_is_loaded(data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=message):
        catalog.require_data(data, tmp_path)


def test_without_the_package_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"needs the package datasets: pip install 'inversion\[datasets\]'"):
        catalog.require_data("hf:cifar10", tmp_path)


def test_parquet_has_the_splits_of_its_files_and_the_pixels_of_a_folder(
    library: Any, make_photos: Photos, tmp_path: Path
) -> None:
    for split, name in zip(SPLITS, ("train", "validation", "test"), strict=True):
        files = make_photos(*(f"{split}/{number}.png" for number in range(2)))
        table(library, files, label=[0, 1]).to_parquet(tmp_path / "set" / f"{name}-00000-of-00001.parquet")
    photos = catalog.find_photo_set(f"hf:{tmp_path}/set", tmp_path / "data")
    assert [photo.name for photo in photos.splits["val"]] == ["validation/0000000.png", "validation/0000001.png"]
    assert (photos.name, photos.data, photos.root) == ("set", f"hf:{tmp_path}/set", tmp_path / "set")
    other = catalog.find_photo_set(str(tmp_path / "photos"), tmp_path / "data")
    assert load_cached(photos, 32, tmp_path / "a").digest == load_cached(other, 32, tmp_path / "b").digest
    (tmp_path / "set" / "test-00000-of-00001.parquet").unlink()
    assert [len(catalog.find_photo_set(photos.data, tmp_path / "data").splits[split]) for split in SPLITS] == [1, 1, 2]


def test_a_saved_set_without_splits_is_split_and_rows_without_an_image_are_left_out(
    library: Any, make_photos: Photos, tmp_path: Path
) -> None:
    files = make_photos(*(f"{number}.png" for number in range(4)))
    saved = table(library, files)
    empty = library.Dataset.from_dict({"image": [None]}, features=saved.features)
    library.concatenate_datasets([empty, saved]).save_to_disk(tmp_path / "saved")
    photos = catalog.find_photo_set(f"hf:{tmp_path}/saved", tmp_path / "data")
    assert sorted(photo.name for split in SPLITS for photo in photos.splits[split]) == [
        f"all/000000{number}.png" for number in range(1, 5)]
    assert any("1 rows have no image" in line for line in photos.remarks)


def test_a_set_that_cannot_be_used_is_refused_in_one_line(library: Any, make_photos: Photos, tmp_path: Path) -> None:
    (file,) = make_photos("a.png")
    library.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "words")
    features = library.Features({"left": library.Image(), "right": library.Image()})
    with Image.open(file) as image:
        pair = {"left": [image], "right": [image]}
        library.Dataset.from_dict(pair, features=features).save_to_disk(tmp_path / "pairs")
    for name, message in ((f"{tmp_path}/words", r"no column of images \(text\)"),
                          (f"{tmp_path}/pairs", r"several columns of images .*\(left, right\)"),
                          ("nobody/of-that-name", "'hf:nobody/of-that-name' cannot be loaded .HF_HUB_OFFLINE is set")):
        with pytest.raises(DataError, match=message) as refused:
            catalog.find_photo_set(f"hf:{name}", tmp_path / "data")
        assert "\n" not in str(refused.value)
