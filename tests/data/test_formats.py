"""Which files are photographs, by extension and by content, and what is said of those that are not."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, features

from inversion.data import formats
from inversion.data.cache import load_cached
from inversion.data.decode import decode_photo
from inversion.data.folder import photo_set
from inversion.errors import DataError

Make = Callable[..., list[Path]]

SIDE = 37
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(60)


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if pillow-heif were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else find(name))
    for cached in (formats.extensions, formats.reads_heif):
        cached.cache_clear()
    yield
    for cached in (formats.extensions, formats.reads_heif):
        cached.cache_clear()


def test_extensions_are_those_that_pillow_knows_of_the_formats() -> None:
    Image.init()
    known = {extension for extension, name in Image.registered_extensions().items() if name in formats.FORMATS}
    assert (known | {".mpo"}) - {".gif", ".apng", ".pbm", ".pfm"} == formats.EXTENSIONS


def test_every_format_that_is_asked_for_is_one_of_pillows() -> None:
    Image.init()
    assert set(formats.formats()) <= set(Image.OPEN)


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.JFIF", "a.j2k", "a.pgm", "a.mpo", "a.dib"])
def test_less_usual_extensions_are_photographs(name: str, tmp_path: Path, make_photos: Make) -> None:
    make_photos("1.png", "2.png")
    kind = {".mpo": "JPEG", ".pgm": "PPM"}.get(Path(name).suffix)
    Image.new("RGB", (40, 40), (9, 99, 199)).save(tmp_path / "photos" / name, kind)
    photos = photo_set(tmp_path / "photos", tmp_path / "cache")
    assert not photos.remarks
    load_cached(photos, 32, tmp_path / "cache")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
def test_avif_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40), (200, 100, 50)).save(tmp_path / "photo.avif", exif=exif)
    assert ".avif" in formats.extensions()
    assert decode_photo(tmp_path / "photo.avif", SIDE).shape == (55, SIDE, 3)


def test_heic_is_read_where_pillow_heif_is_installed_whatever_it_is_called(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
    heif.register_heif_opener()
    Image.new("RGB", (60, 40), (200, 100, 50)).save(tmp_path / "photo.heic", quality=95)
    (tmp_path / "photo.heic").rename(tmp_path / "photo.jpg")
    assert abs(decode_photo(tmp_path / "photo.jpg", SIDE).astype(int) - (200, 100, 50)).max() < 6
    assert ".heic" in formats.extensions()


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize(("name", "named"), [
    ("photo.jpg", " with the extension .jpg"), ("photo.png", " with the extension .png"), ("photo.heic", "")])
def test_heic_is_known_by_its_content(name: str, named: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(DataError, match=rf"{name}: this is a HEIC file{named}: install pillow-heif"):
        decode_photo(tmp_path / name, SIDE)


@pytest.mark.parametrize(("content", "what"), [
    (b"", "an empty file"),
    (bytes(4000), "nothing but zeros"),
    (b"\n<!DOCTYPE html><html>", "an HTML page"),
    (b"\xef\xbb\xbf<html>", "an HTML page"),
    (b"<?xml version='1.0'?><Error><Code>AccessDenied", "an XML file"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n",
     "a Git LFS pointer with the extension .png: run "),
    (b"/annex/objects/SHA256E-s1--a.png\n", "a git-annex pointer"),
    ('{"message": "Café not found"}'.encode(), "a text file"),
    (b"\0\0\0\x18ftypisom\0\0\2\0isomavc1" + bytes(40), "a video"),
    (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
    (b"RIFF\x10\0\0\0AVI LIST", "a video"),
    (b"\x1aE\xdf\xa3\x01\0\0\0", "a video"),
    (b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
    (b"PK\x03\x04\x14\0", "a zip archive"),
    (b"\xff\x0a\xfa\x7f", "a JPEG XL file"),
])
def test_what_is_no_image_is_called_what_it_is(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(content)
    with pytest.raises(DataError, match=f"photo.png: not an image in a known format: this is {what}"):
        decode_photo(tmp_path / "photo.png", SIDE)


def test_the_content_counts_and_not_the_extension(tmp_path: Path) -> None:
    Image.new("RGB", (SIDE, SIDE), (200, 100, 50)).save(tmp_path / "photo.jpg", "WEBP", lossless=True)
    assert decode_photo(tmp_path / "photo.jpg", SIDE)[0, 0].tolist() == [200, 100, 50]


@pytest.mark.usefixtures("without_heif")
def test_files_that_are_left_out_are_counted_by_kind(tmp_path: Path, make_photos: Make) -> None:
    root = tmp_path / "photos"
    make_photos("a.png", "b.png", "c.png")
    for name in (*(f"{number}.HEIC" for number in range(10)), "x.txt", "y.txt", "z.nef", "README"):
        (root / name).write_bytes(b"x")
    line, = photo_set(root, tmp_path / "cache").remarks
    assert line == ("14 files are left out, more than the 3 photographs that are used: 10 .heic (install pillow-heif), "
                    "2 .txt, 1 without an extension, 1 .nef (convert them to PNG or TIFF)")


@pytest.mark.usefixtures("without_heif")
def test_a_folder_with_too_few_photographs_says_what_was_left_out(tmp_path: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png")
    (tmp_path / "photos" / "c.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"2 different photographs; .*1 file is left out: 1 \.heic \(install pillow"):
        photo_set(tmp_path / "photos", tmp_path / "cache")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
@pytest.mark.parametrize("linked", [True, False])
def test_only_regular_files_are_photographs(tmp_path: Path, make_photos: Make, linked: bool) -> None:
    """Opening a FIFO waits for ever; /dev/zero never ends."""
    root = tmp_path / "photos"
    make_photos("a.png", "b.png", "c.png")
    place = tmp_path if linked else root
    os.mkfifo(place / "fifo.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "socket.png"))
    if linked:
        for name in ("fifo.png", "socket.png"):
            (root / name).symlink_to(place / name)
    (root / "zero.png").symlink_to("/dev/zero")
    (root / "folder.png").mkdir()
    photos = photo_set(root, tmp_path / "cache")
    assert sum(map(len, photos.splits.values())) == 3
    assert photos.remarks == ["3 left out, not regular files: fifo.png, socket.png, zero.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_picture_that_is_no_regular_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name, kind in (("fifo", "a FIFO"), ("zero", "a character device"), ("folder", "a folder")):
        with pytest.raises(DataError, match=rf"{name}.png: {kind}.*, not a regular file"):
            decode_photo(tmp_path / f"{name}.png", SIDE)


def test_a_file_without_end_is_not_read(tmp_path: Path, make_photos: Make) -> None:
    make_photos("a.png", "b.png", "c.png")
    with (tmp_path / "photos" / "sparse.png").open("wb") as file:
        file.truncate(2**41)
    photos = photo_set(tmp_path / "photos", tmp_path / "cache")
    with pytest.raises(DataError, match=r"sparse.png: 2,199,023,255,552 bytes are more than any photograph has"):
        load_cached(photos, 32, tmp_path / "cache")


def test_a_file_that_changes_while_it_is_read_is_not_kept_under_the_old_digest(
    tmp_path: Path, make_photos: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inversion.data import decode

    paths = make_photos("a.png", "b.png", "c.png")
    for path in paths:
        os.utime(path, ns=(0, 10**18))  # old enough to be remembered
    folder, decoded = tmp_path / "cache", decode.decode_photo
    photos = photo_set(tmp_path / "photos", folder)

    def changing(path: Path, side: int) -> object:
        pixels = decoded(path, side)
        if path.name == "b.png":
            make_photos("b.png")
            os.utime(path, ns=(0, 10**18))
        return pixels

    with monkeypatch.context() as patch:
        patch.setattr(decode, "decode_photo", changing)
        with pytest.raises(DataError, match=r"1 of 3 .*b.png: it changed while it was being read"):
            load_cached(photos, 32, folder)
    assert not list(folder.glob("*.arrow"))
    load_cached(photos, 32, folder)
