"""A cache of pixels that is damaged, cannot be written, or is interrupted."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from PIL import Image

from inversion import files
from inversion.data import arrowfile, cache, decode
from inversion.data.cache import load_cached
from inversion.data.folder import photo_set
from inversion.errors import DataError
from tests.data.caches import NAMES, leftovers, load


def arrow_file(folder: Path) -> Path:
    (found,) = folder.glob("*.arrow")
    return found


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def garble_the_start(path: Path) -> None:
    path.write_bytes(b"x" * 2000 + path.read_bytes()[2000:])


def put_text(path: Path) -> None:
    path.write_text("not Arrow at all")


def make_old(path: Path) -> None:
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    metadata = {**table.schema.metadata, b"format": b"0"}
    with pa.ipc.new_stream(str(path), table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.replace_schema_metadata(metadata))


def swap_rows(path: Path) -> None:
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table.take([1, 0, *range(2, len(table))]))


def drop_a_column(path: Path) -> None:
    table = pa.ipc.open_stream(path.read_bytes()).read_all().drop(["crc32"])
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_pixel, garble_the_start, put_text, make_old, swap_rows,
                                    drop_a_column])
def test_a_damaged_or_old_file_is_rebuilt_with_a_warning(
    root: Path, folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    good = [pixels.copy() for pixels in load(root, folder).pixels("train")]
    damage(arrow_file(folder))
    with caplog.at_level(logging.WARNING):
        again = load(root, folder).pixels("train")
    assert caplog.text.count("decoding the photographs again") == 1
    assert all(np.array_equal(one, other) for one, other in zip(good, again, strict=True))
    caplog.clear()
    load(root, folder)
    assert not caplog.text


def test_another_decoder_version_decodes_again(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(root, folder)
    monkeypatch.setattr(decode, "DECODE_VERSION", decode.DECODE_VERSION + 1)
    after = load(root, folder)
    assert after.path != before.path
    assert after.digest == before.digest


def test_all_bad_photographs_are_reported_at_once_and_no_file_is_left(root: Path, folder: Path) -> None:
    (root / "train" / "1.png").write_bytes(b"text")
    Image.new("RGB", (10, 10)).save(root / "val" / "a.png")
    (root / "test" / "lost.png").symlink_to(root / "nowhere.png")
    with pytest.raises(DataError) as caught:
        load(root, folder)
    message = str(caught.value)
    assert message.startswith("3 of 8 photographs cannot be used: ")
    reasons = {"train/1.png": "not an image", "val/a.png": "too small", "test/lost.png": "No such file"}
    for name, reason in reasons.items():
        assert re.search(rf"{root}/{name}: [^;]*{reason}", message)
    assert "\n" not in message
    assert not list(folder.glob("*.arrow"))
    assert not leftovers(folder)


def test_of_many_bad_photographs_ten_are_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(25):
        (tmp_path / "photos" / f"{number}.png").write_bytes(b"%d" % number)
    with pytest.raises(DataError, match=r"25 of 25 .*; and 15 more\.") as caught:
        load(tmp_path / "photos", folder)
    assert str(caught.value).count("not an image") == 10


def test_a_folder_that_cannot_be_made_is_named_with_the_remedy(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=rf"{tmp_path}/file/cache .*data_dir=FOLDER"):
        load(root, tmp_path / "file" / "cache")


@pytest.mark.parametrize("place", ["write", "replace"])
def test_a_full_disk_is_named_and_leaves_nothing(
    root: Path, folder: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if place == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(arrowfile, "zlib", SimpleNamespace(crc32=full))  # in the midst of writing
    with pytest.raises(DataError, match=rf"{folder} \(No space left on device\).*data_dir=FOLDER"):
        load(root, folder)
    assert [path.name for path in folder.iterdir()] == [files.LOCK_NAME]


def test_a_good_cache_in_a_folder_that_cannot_be_written_is_used(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    before = load(root, folder)
    request.getfixturevalue("no_decoding")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "replace", refuse)
    for path in root.rglob("*.png"):  # so that the index would have to be written
        os.utime(path, ns=(0, 0))
    assert load(root, folder).digest == before.digest


def test_after_a_killed_process_the_next_one_continues_with_the_same_pixels(root: Path, folder: Path) -> None:
    code = f"""
import os, pathlib, signal
from inversion.data import arrowfile, cache, folder
arrowfile.BATCH_ROWS = 2
write = arrowfile.pa.record_batch
count = 0
def dying(*args, **kwargs):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(*args, **kwargs)
arrowfile.pa.record_batch = dying
root, index = pathlib.Path({str(root)!r}), pathlib.Path({str(folder)!r})
cache.load_cached(folder.photo_set(root, index), 32, index)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert not list(folder.glob("*.arrow"))
    (partial,) = leftovers(folder)
    abandoned = folder / f".photos-0{cache.UNFINISHED}"
    abandoned.touch()
    os.utime(abandoned, (time.time(), time.time() - cache.KEPT_SECONDS - 60))
    with (folder / partial).open("ab") as file:
        file.write(b"half a batch")
    counted: list[int] = []
    continued = load_cached(photo_set(root, folder), 32, folder, lambda what, done, _: counted.append(done)
                            if what == "decoding photographs" else None)
    assert counted == list(range(5, len(NAMES) + 1))  # four had been written
    assert not leftovers(folder)
    continued.path.unlink()
    whole = load(root, folder)
    assert all(np.array_equal(one, other) for split in ("train", "val", "test")
               for one, other in zip(continued.pixels(split), whole.pixels(split), strict=True))


def test_of_processes_that_begin_together_one_decodes(root: Path, folder: Path, tmp_path: Path) -> None:
    code = f"""
import pathlib
from inversion.data import cache, decode, folder
original = decode.decode_photo
def counting(path, side):
    with open({str(tmp_path / "decoded")!r}, "a") as log:
        log.write("x")
    return original(path, side)
decode.decode_photo = counting
root, index = pathlib.Path({str(root)!r}), pathlib.Path({str(folder)!r})
print(cache.load_cached(folder.photo_set(root, index), 32, index).digest)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    digests = {process.communicate()[0] for process in processes}
    assert len(digests) == 1
    assert (tmp_path / "decoded").read_text() == "x" * len(NAMES)


def test_an_interrupt_leaves_no_file_of_the_name_and_can_be_continued(root: Path, folder: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what == "decoding photographs" and done == 3:
            raise KeyboardInterrupt

    photos = photo_set(root, folder)
    with pytest.raises(KeyboardInterrupt):
        load_cached(photos, 32, folder, interrupt)
    assert not list(folder.glob("*.arrow"))
    assert load(root, folder).names("train")
    assert not leftovers(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": 0}', '{"version": 1}',
                                     '{"version": 1, "files": []}', '{"version": 1, "files": {"x": 3}}'])
def test_a_broken_index_is_begun_again(root: Path, folder: Path, content: str) -> None:
    for path in root.rglob("*.png"):
        os.utime(path, ns=(0, 10**18))
    before = load(root, folder)
    (index,) = folder.glob("hashes-*.json")
    good = index.read_text()
    index.write_text(content)
    assert load(root, folder).digest == before.digest
    assert index.read_text() == good
