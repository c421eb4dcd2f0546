"""WebDataset shards as a data set."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from inversion.data import braces
from inversion.data import datasets as catalog
from inversion.data.cache import load_cached
from inversion.data.splits import SPLITS
from inversion.errors import DataError, RequestError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, make_photos: Callable[..., list[Path]]) -> Write:
    """Writes a shard of photographs under the names given: ``write("train-000.tar", "1.png", "1.cls")``."""

    def make(shard: str, *members: str, size: tuple[int, int] = (48, 40)) -> Path:
        path = tmp_path / "shards" / shard
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for member in members:
                (photo,) = make_photos("photo.png", root=tmp_path, width=size[0], height=size[1])
                content = photo.read_bytes() if member.endswith((".png", ".jpg")) else b"7"
                info = tarfile.TarInfo(member)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return make


@pytest.mark.parametrize(("pattern", "texts"), [
    ("a.tar", ["a.tar"]), ("a{08..11}", ["a08", "a09", "a10", "a11"]), ("{2..0}", ["2", "1", "0"]),
    ("{train-{0..1},val}.tar", ["train-0.tar", "train-1.tar", "val.tar"]), ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
    ("{9..10}", ["9", "10"]), ("{a,a}", ["a"]),
])
def test_braces_are_those_of_a_shell(pattern: str, texts: list[str]) -> None:
    assert braces.expanded(pattern) == texts


@pytest.mark.parametrize(("pattern", "message"), [
    ("a{0..9.tar", "without its partner"), ("a0}.tar", "without its partner"), ("{}.tar", "neither a range"),
    ("{000-099}.tar", "neither a range"), ("{0..9999999}.tar", "more than 1,000,000"),
])
def test_wrong_braces_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        braces.expanded(pattern)


def splits_of(data: object, tmp_path: Path) -> Mapping[str, list[str]]:
    photos = catalog.find_photo_set(str(data), tmp_path / "data")
    return {split: [photo.name for photo in photos.splits[split]] for split in SPLITS}


@pytest.mark.parametrize("shards", [
    {"train-000.tar": "1.png", "train-001.tar": "2.png", "validation-000.tar": "3.png", "test-000.tar": "4.png"},
    {"set-train-000.tar": "1.png", "set-train-001.tar": "2.png", "set-val-000.tar": "3.png", "set-test-0.tar": "4.png"},
    {"train/000.tar": "1.png", "train/001.tar": "2.png", "val/000.tar": "3.png", "test/000.tar": "4.png"},
    {"all-000.tar": "train/cat/1.png", "all-001.tar": "train/dog/2.png", "all-002.tar": "val/cat/3.png",
     "all-003.tar": "./test/4.png"},
])
def test_splits_are_those_of_shards_or_of_folders_in_them(shards: dict[str, str], write: Write, tmp_path: Path
                                                          ) -> None:
    for shard, member in shards.items():
        write(shard, member, member.replace(".png", ".cls"))
    stems = ",".join(shard.removesuffix(".tar") for shard in shards)
    found = splits_of(f"{tmp_path}/shards/{{{stems}}}.tar", tmp_path)
    names = [f"{shard.removesuffix('.tar')}/{member.removeprefix('./')}" for shard, member in shards.items()]
    assert found == {"train": names[:2], "val": names[2:3], "test": names[3:]}


def test_shards_without_splits_are_split_like_a_folder(write: Write, tmp_path: Path) -> None:
    for shard in range(2):
        write(f"{shard:03}.tar", *(f"{number}.png" for number in range(5)))
    data = f"{tmp_path}/shards/{{000..001}}.tar"
    found = splits_of(data, tmp_path)
    assert [len(found[split]) for split in SPLITS] == [6, 2, 2]
    assert len({name for names in found.values() for name in names}) == 10
    assert splits_of(tmp_path / "shards" / "*.tar", tmp_path) == found


def test_the_cache_is_that_of_the_same_photographs_in_a_folder(write: Write, tmp_path: Path) -> None:
    shards = [write(f"{split}-0.tar", *(f"{number}.png" for number in range(2))) for split in SPLITS]
    for path in shards:
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "folder" / path.stem.removesuffix("-0"), filter="data")
    caches = [load_cached(catalog.find_photo_set(str(data), tmp_path / "data"), 32, tmp_path / name)
              for name, data in (("a", tmp_path / "shards" / "{train,val,test}-0.tar"), ("b", tmp_path / "folder"))]
    assert caches[0].digest == caches[1].digest
    for split in SPLITS:
        for one, other in zip(caches[0].pixels(split), caches[1].pixels(split), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_sample_counts_once_and_other_files_do_not(write: Write, tmp_path: Path) -> None:
    path = write("set.tar", "a.png", "a.seg.png", "a.json", "b.png", "c.png", ".hidden.png", "d.png")
    photos = catalog.find_photo_set(str(path), tmp_path / "data")
    assert sorted(photo.name for split in SPLITS for photo in photos.splits[split]) == [
        f"set/{name}.png" for name in "abcd"]
    assert photos.name == "set"
    assert any("1 file is left out: 1 .json" in line for line in photos.remarks)
    assert any("1 images are left out" in line and "set/a.seg.png" in line for line in photos.remarks)


def test_a_replaced_shard_is_read_again(write: Write, tmp_path: Path) -> None:
    members = [f"{number}.png" for number in range(4)]
    digests = {load_cached(catalog.find_photo_set(str(write("set.tar", *members)), tmp_path), 32, tmp_path).digest
               for _ in range(2)}
    assert len(digests) == 2


def test_a_photograph_that_is_unusable_is_named_with_its_shard(write: Write, tmp_path: Path) -> None:
    path = write("set.tar", "a.png", "b.png", "c.png", size=(20, 20))
    with pytest.raises(DataError, match=r"set\.tar: [abc]\.png: 20×20 is too small"):
        load_cached(catalog.find_photo_set(str(path), tmp_path), 32, tmp_path)


@pytest.mark.parametrize("cut", [700, 512 * 3 - 100, -1])
def test_a_damaged_shard_is_refused(write: Write, tmp_path: Path, cut: int) -> None:
    path = write("set.tar", "a.cls", "b.cls", "c.cls", "d.png")
    content = bytearray(path.read_bytes())
    if cut == -1:  # a header in the middle that is no header; tarfile takes it for the end
        content[1024:1100] = b"x" * 76
        path.write_bytes(content)
    else:
        path.write_bytes(content[:cut])
    with pytest.raises(DataError, match=r"set\.tar: not an uncompressed tar file, or a damaged one"):
        catalog.find_photo_set(str(path), tmp_path)


@pytest.mark.parametrize(("data", "message"), [
    ("shards/set-{0..3}.tar", r"3 of the 4 shards .* are missing: .*set-1\.tar"), ("none/*.tar", "no shard matches"),
    ("shards/set-0.tar.gz", "decompress them"), ("https://x.org/{0..9}.tar", "https addresses are not read"),
    ("shards/set-{0..3.tar", "without its partner"),
])
def test_shards_that_are_not_there_are_refused_before_anything_is_read(
    data: str, message: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("set-0.tar", "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message):
        catalog.require_data(data, tmp_path)
    with pytest.raises(RequestError, match=message):
        catalog.find_photo_set(data, tmp_path)
