"""Supported image formats: by extension when a folder is listed, by content when a file is opened.

Importing this module does not import Pillow.
"""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "GIF")
"""Formats that Pillow may open. Some of its other formats run programs (EPS starts Ghostscript)."""

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".tif", ".tiff",
                        ".ppm", ".pgm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"})
"""Pillow's extensions of these formats, without animations (GIF, APNG), bitmaps (PBM) and floats (PFM)."""

AVIF_EXTENSIONS = frozenset({".avif"})
HEIF_EXTENSIONS = frozenset({".heic", ".heif", ".hif"})
RAW_EXTENSIONS = frozenset({".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2",
                            ".srw"})

AVIF_REMEDY = "install Pillow 11.3 or newer, built with AVIF"
HEIF_REMEDY = "install pillow-heif"
CONVERT = "convert them to PNG or TIFF"

KINDS_NAMED = 5
HEAD_BYTES = 512

_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})

_SIGNATURES = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer: run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer: run `git annex get`"),
    (b"<!doctype html", "an HTML page: the download went wrong"),
    (b"<html", "an HTML page: the download went wrong"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"%pdf-", "a PDF document"),
    (b"%!ps", "a PostScript file"),
    (b"8bps", "a Photoshop file"),
    (b"pk\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"rar!", "a RAR archive"),
    (b"\x1aE\xdf\xa3".lower(), "a video (Matroska or WebM)"),
    (b"\x00\x00\x01\xba", "a video (MPEG)"),
    (b"\x00\x00\x01\xb3", "a video (MPEG)"),
    (b"\xff\x0a", "a JPEG XL file: convert it"),
    (b"\x00\x00\x00\x0cjxl ", "a JPEG XL file: convert it"),
    (b"fujifilmccd-raw", "a camera's raw file: convert it"),
    (b"\x93numpy", "a NumPy array"),
)
"""First bytes, with letters in lower case, of files that are often misnamed as photographs."""


@functools.cache
def extensions() -> frozenset[str]:
    """The extensions that can be read with the installed libraries, in lower case."""
    return EXTENSIONS | (AVIF_EXTENSIONS if _reads_avif() else set()) | (HEIF_EXTENSIONS if reads_heif() else set())


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it may open; HEIF is handled separately."""
    return (*FORMATS, "AVIF") if _reads_avif() else FORMATS


@functools.cache
def reads_heif() -> bool:
    """Whether pillow-heif is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


def known_extensions() -> str:
    """The supported extensions, for a message."""
    return " ".join(sorted(extensions()))


def kinds_of(names: Iterable[str]) -> str:
    """Counts unsupported files by extension: ``100 .heic (install pillow-heif), 3 .txt``."""
    counts = Counter(PurePath(name).suffix.lower() for name in names).most_common()
    kinds = [f"{count} {_kind(suffix)}" for suffix, count in counts[:KINDS_NAMED]]
    if rest := counts[KINDS_NAMED:]:
        kinds.append(f"{sum(count for _, count in rest)} of {len(rest)} other kinds")
    return ", ".join(kinds)


def is_heif(head: bytes) -> bool:
    """Whether the first bytes of a file are those of HEIC or HEIF; AVIF is another format in the same container."""
    return bool(_brands(head)) and _brands(head)[0] in _HEIF_BRANDS and not _AVIF_BRANDS & set(_brands(head))


def described(head: bytes, suffix: str) -> str:
    """Describes a file that Pillow cannot identify, from its first bytes and its extension."""
    named = f" with the extension {suffix}" if suffix else ""
    if is_heif(head):
        problem = "damaged" if reads_heif() else HEIF_REMEDY
        return f"this is a HEIC file{'' if suffix.lower() in HEIF_EXTENSIONS else named}: {problem}"
    if _AVIF_BRANDS & set(_brands(head)):
        problem = "damaged" if "AVIF" in formats() else AVIF_REMEDY
        return f"this is an AVIF file{'' if suffix.lower() in AVIF_EXTENSIONS else named}: {problem}"
    what, colon, remedy = _content(head).partition(": ")
    if not what:
        return f"not an image in a known format ({', '.join(formats())}), or a damaged one"
    return f"not an image in a known format: this is {what}{named}{colon}{remedy}"


def _content(head: bytes) -> str:
    """The kind of a file by its first bytes, in words; empty if unknown."""
    if not head:
        return "an empty file"
    if not head.strip(b"\0"):
        return "nothing but zeros: it was not copied or downloaded to its end"
    if _brands(head):
        return "a video (MP4 or QuickTime)"
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"WAVE"):
        return "a video (AVI)" if head[8:12] == b"AVI " else "a sound (WAVE)"
    beginning = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, what in _SIGNATURES:
        if beginning.startswith(signature) or head.lower().startswith(signature):
            return what
    return "a text file" if _is_text(head) else ""


def _brands(head: bytes) -> list[bytes]:
    """The brands of an ISO base media file, the major one first; empty for other files."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4]), len(head))
    return [head[8:12], *(head[start:start + 4] for start in range(16, end - 3, 4))]


def _is_text(head: bytes) -> bool:
    try:
        text = head[: len(head) - 3 if len(head) == HEAD_BYTES else None].decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _kind(suffix: str) -> str:
    remedy = (AVIF_REMEDY if suffix in AVIF_EXTENSIONS else HEIF_REMEDY if suffix in HEIF_EXTENSIONS
              else CONVERT if suffix in RAW_EXTENSIONS else "")
    return f"{suffix or 'without an extension'}{f' ({remedy})' if remedy else ''}"


def _reads_avif() -> bool:
    from PIL import features

    return "avif" in features.get_supported_modules()
