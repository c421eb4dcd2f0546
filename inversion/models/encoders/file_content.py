"""Detection of a weights file's format from its content, since extensions (``.bin``, ``.ckpt``) are ambiguous.

This module does not import PyTorch.
"""

from __future__ import annotations

import functools
import json
import stat
import zipfile
import zlib
from pathlib import Path
from typing import Literal

Format = Literal["zip", "pickle", "safetensors"]

START_BYTES = 1024
MOST_HEADER_BYTES = 100_000_000
CHUNK_BYTES = 1 << 20

MAGIC_NUMBER = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number at the start of files of ``torch.save`` before version 1.6."""

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "it is a git-lfs pointer, not the file itself: fetch that with git lfs pull"),
    (b"\x89HDF", "it is an HDF5 file, as Keras writes: convert it"),
    (b"GGUF", "it is a GGUF file: convert it"),
    (b"\x93NUMPY", "it is a NumPy array: convert it"),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"BZh", "it is compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "it is compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf", "it is a 7z archive: unpack it first"),
    (b"\x89PNG", "it is a PNG picture"),
    (b"\xff\xd8\xff", "it is a JPEG picture"),
)


class ForeignFileError(Exception):
    """Not a weights file, or only a part of one; the message says what it is."""


def format_of(path: Path) -> Format:
    """The format of a weights file: PyTorch's ``zip`` (or ``pickle`` before 1.6), or ``safetensors``.

    Raises:
        ForeignFileError: another format, or visibly truncated.
        OSError: it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a FIFO would block
        raise ForeignFileError("it is no regular file")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        raise ForeignFileError("it is empty")
    for magic, what in _FOREIGN:
        if start.startswith(magic):
            raise ForeignFileError(what)
    if start.startswith(b"PK\x03\x04"):
        return _check_zip(path)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= MOST_HEADER_BYTES:
        return _check_safetensors(path, status.st_size, int.from_bytes(start[:8], "little"))
    if start[0] == 0x80 and len(start) > 1 and start[1] <= 5:
        if MAGIC_NUMBER not in start[:64]:
            raise ForeignFileError("it is a Python pickle that torch.save did not write: if you trust it, "
                                   "save with torch.save what pickle.load gives")
        return "pickle"
    raise ForeignFileError(_guess(start))


def require_whole(path: Path) -> None:
    """Compares the content of a zip file with its checksums: PyTorch does not, and would load wrong numbers.

    A file in which no checksum is right was written without them (``torch.serialization.set_crc32_options(False)``).

    Raises:
        ForeignFileError: a part of the file is damaged.
        OSError: it cannot be read.
    """
    status = path.stat()
    _require_checksums(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _require_checksums(path: Path, size: int, modified: int) -> None:
    """Size and modification time are part of the cache's key, so that a rewritten file is read again."""
    with zipfile.ZipFile(path) as archive:
        found = {member.filename: _is_whole(archive, member) for member in archive.infolist() if member.file_size}
    if any(found.values()) and not all(found.values()):
        broken = next(name for name, whole in found.items() if not whole)
        raise ForeignFileError(f"it is damaged: {broken} in it does not have its checksum")


def _is_whole(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(member) as content:
            while content.read(CHUNK_BYTES):
                pass
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return False
    return True


def _check_zip(path: Path) -> Format:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        # the central directory is at the end of a zip file
        raise ForeignFileError("it is damaged or cut short: the end of the zip file is missing") from error
    if any(name.endswith("/constants.pkl") for name in names):
        raise ForeignFileError("it is a TorchScript program: save the state_dict() of what torch.jit.load gives")
    if not any(name.endswith("data.pkl") for name in names):
        kind = "NumPy archive" if any(name.endswith(".npy") for name in names) else "zip archive of something else"
        raise ForeignFileError(f"it is a {kind}")
    return "zip"


def _check_safetensors(path: Path, size: int, header: int) -> Format:
    with path.open("rb") as file:
        file.seek(8)
        text = file.read(header)
    try:
        entries = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
        whole = 8 + header + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        cut = f"cut short within its header, at {size} bytes" if size < 8 + header else "damaged in its header"
        raise ForeignFileError(f"it is a safetensors file that is {cut}") from error
    if size < whole:
        raise ForeignFileError(f"it is a safetensors file that is cut short: {size} of {whole} bytes are there")
    return "safetensors"


def _guess(start: bytes) -> str:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        return "it is a web page (HTML or XML): the download went wrong, or the address was that of a page"
    if text.startswith((b"{", b"[")):
        return "it is JSON text: an error message of a server, or the index of weights in several files"
    if start[257:262] == b"ustar":
        return "it is a tar archive: unpack it first"
    if not start.strip(b"\0"):
        return "it begins with zeros: the download was not finished"
    return "it is damaged, or neither PyTorch nor safetensors wrote it"
