"""DIV2K from server to splits, with archives of a few small photographs; and what an archive must not do."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inversion import download
from inversion.data import div2k
from inversion.data.cache import load_cached
from inversion.data.div2k import Archive, Archives, unpack
from inversion.data.splits import Photo, PhotoSet
from inversion.errors import DataError


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


@pytest.fixture
def archives(
    tmp_path: Path, make_photos: Callable[..., list[Path]], server: Any, monkeypatch: pytest.MonkeyPatch
) -> Archives:
    """Ten photographs to train and validate and three to test, on the local server."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(download, "CHUNK_BYTES", 1_000)
    made = []
    for folder, first, photos in (("DIV2K_train_HR", 1, 10), ("DIV2K_valid_HR", 801, 3)):
        names = [f"{number:04d}.png" for number in range(first, first + photos)]
        files = make_photos(*names, root=tmp_path / "source" / folder)
        path = zipped(tmp_path / f"{folder}.zip", {f"{folder}/{file.name}": file.read_bytes() for file in files})
        content = server.files[f"/{path.name}"] = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        made.append(Archive(folder, f"{server.url}/{path.name}", len(content), sha256, first, photos))
    return made[0], made[1]


def test_the_official_archives_are_800_and_100_photographs() -> None:
    train, valid = div2k.ARCHIVES
    assert (train.names()[0], train.names()[-1], len(train.names())) == ("0001.png", "0800.png", 800)
    assert (valid.names()[0], valid.names()[-1], len(valid.names())) == ("0801.png", "0900.png", 100)


def test_fetched_over_a_bad_connection_it_can_be_trained_on(tmp_path: Path, archives: Archives, server: Any) -> None:
    server.cut_after = 5_000
    data_dir = tmp_path / "data"
    assert not div2k.is_present(data_dir, archives)
    div2k.fetch(data_dir, archives=archives)
    assert div2k.is_present(data_dir, archives)
    assert len(server.requests) > 3
    assert sorted(path.name for path in (data_dir / "DIV2K").glob("[!.]*")) == ["DIV2K_train_HR", "DIV2K_valid_HR"]
    photos = div2k.photo_set(data_dir, archives)
    cache = load_cached(photos, 32, data_dir / "cache")
    assert [len(cache.pixels(split)) for split in ("train", "val", "test")] == [8, 2, 3]
    assert cache.names("test") == [f"DIV2K_valid_HR/{name}" for name in ("0801.png", "0802.png", "0803.png")]
    assert not set(cache.names("train")) & set(cache.names("val"))


def test_what_is_on_disk_is_not_fetched_again(tmp_path: Path, archives: Archives, server: Any) -> None:
    div2k.fetch(tmp_path, archives=archives)
    server.requests.clear()
    div2k.fetch(tmp_path, archives=archives)
    assert not server.requests


def test_an_archive_that_was_saved_by_hand_is_taken(tmp_path: Path, archives: Archives, server: Any) -> None:
    (tmp_path / "data" / "DIV2K").mkdir(parents=True)
    for archive in archives:
        (tmp_path / f"{archive.folder}.zip").rename(tmp_path / "data" / "DIV2K" / f"{archive.folder}.zip")
    div2k.fetch(tmp_path / "data", archives=archives)
    assert div2k.is_present(tmp_path / "data", archives)
    assert not server.requests


def test_after_an_interruption_only_the_missing_archive_is_fetched(
    tmp_path: Path, archives: Archives, server: Any
) -> None:
    valid = server.files.pop("/DIV2K_valid_HR.zip")
    with pytest.raises(DataError, match="404"):
        div2k.fetch(tmp_path / "data", archives=archives)
    with pytest.raises(DataError, match=r"DIV2K_valid_HR has 0 of 3 photographs.*inversion data div2k"):
        div2k.photo_set(tmp_path / "data", archives)
    server.files["/DIV2K_valid_HR.zip"] = valid
    server.requests.clear()
    div2k.fetch(tmp_path / "data", archives=archives)
    assert server.requests == [("/DIV2K_valid_HR.zip", None)]


def test_an_incomplete_folder_is_refused_before_anything_is_fetched(
    tmp_path: Path, archives: Archives, server: Any
) -> None:
    div2k.fetch(tmp_path, archives=archives)
    lost = tmp_path / "DIV2K" / "DIV2K_train_HR" / "0004.png"
    lost.unlink()
    server.requests.clear()
    assert not div2k.is_present(tmp_path, archives)
    for attempt in (lambda: div2k.photo_set(tmp_path, archives), lambda: div2k.fetch(tmp_path, archives=archives)):
        with pytest.raises(DataError, match="9 of 10 photographs"):
            attempt()
    assert not server.requests
    assert (tmp_path / "DIV2K" / "DIV2K_train_HR" / "0001.png").exists()


def test_the_split_depends_on_nothing_but_the_numbers(tmp_path: Path, archives: Archives) -> None:
    div2k.fetch(tmp_path / "a", archives=archives)
    first = div2k.photo_set(tmp_path / "a", archives).splits
    (tmp_path / "a").rename(tmp_path / "b")
    second = div2k.photo_set(tmp_path / "b", archives).splits
    assert [photo.name for photo in first["val"]] == [photo.name for photo in second["val"]]


def test_the_published_protocol_has_the_splits_of_the_released_code() -> None:
    photos = [Photo(f"DIV2K_train_HR/{name}", Path(name)) for name in div2k.ARCHIVES[0].names()]
    test = [Photo("DIV2K_valid_HR/0801.png", Path("0801.png"))]
    drawn = PhotoSet("div2k", Path(), "div2k", {"train": photos[::2], "val": photos[1::2], "test": test})
    state = np.random.get_state()
    np.random.seed(42)  # as it is done there
    order = np.random.permutation(800)
    np.random.set_state(state)
    assert div2k.in_protocol(drawn, "image") is drawn
    train, val = [photos[index] for index in order[:640]], [photos[index] for index in order[640:]]
    assert div2k.in_protocol(drawn, "published").splits == {"train": train, "val": val, "test": test}
    splits = {split: [Photo("a.png", Path("a.png"))] for split in ("train", "val", "test")}
    own = PhotoSet("div2k", Path(), "div2k", splits)
    assert div2k.in_protocol(own, "published") is own


@pytest.mark.parametrize("name", ["../evil.png", "folder/../../evil.png", "/evil.png", "..\\evil.png", "C:/evil.png"])
def test_a_member_outside_the_folder_is_refused_and_nothing_extracted(tmp_path: Path, name: str) -> None:
    path = zipped(tmp_path / "a.zip", {"folder/good.png": b"x", name: b"evil"})
    with pytest.raises(DataError, match="would land outside"):
        unpack(path, tmp_path / "inner" / "folder")
    assert list(tmp_path.rglob("*")) == [path]


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("folder/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc")
    with pytest.raises(DataError, match="would land outside"):
        unpack(tmp_path / "a.zip", tmp_path / "folder")


def test_nothing_is_unpacked_through_a_link(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.png": b"x"})
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".folder.unpacking").symlink_to(tmp_path / "elsewhere")
    unpack(path, tmp_path / "folder")
    assert (tmp_path / "folder" / "a.png").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_damaged_archive_leaves_no_folder(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"folder/a.png": b"first", "folder/b.png": b"second content"})
    path.write_bytes(path.read_bytes().replace(b"second content", b"SECOND content"))
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(path, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_does_not_get_in(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"folder/a.png": b"x"})
    stale = tmp_path / ".folder.unpacking" / "folder"
    stale.mkdir(parents=True)
    (stale / "old.png").touch()
    unpack(path, tmp_path / "folder")
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["a.png"]
    assert not stale.parent.exists()


def test_an_archive_without_a_top_folder_lands_in_the_folder_too(tmp_path: Path) -> None:
    unpack(zipped(tmp_path / "a.zip", {"a.png": b"x"}), tmp_path / "folder")
    assert (tmp_path / "folder" / "a.png").read_bytes() == b"x"


def test_a_folder_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="exists already"):
        unpack(zipped(tmp_path / "a.zip", {"a.png": b"x"}), tmp_path / "folder")


def test_too_little_space_is_noticed_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(folder: Path, needed: int) -> None:
        asked.append(needed)
        raise DataError("full")

    monkeypatch.setattr(download, "require_space", refuse)
    with pytest.raises(DataError, match="full"):
        unpack(zipped(tmp_path / "a.zip", {"a.png": b"x" * 1000}), tmp_path / "folder")
    assert asked == [1000]
    assert not (tmp_path / "folder").exists()
