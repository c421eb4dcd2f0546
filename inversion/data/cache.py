"""The pixel cache: each photograph is decoded and resized once; later epochs, runs and processes map the same file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inversion.data import arrowfile, content, decode, formats
from inversion.data.arrowfile import Row
from inversion.data.content import Place
from inversion.data.hashing import forget, hash_files
from inversion.data.splits import SPLITS, PhotoSet
from inversion.errors import DataError
from inversion.files import alone_in
from inversion.images import stored_size
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress

T = TypeVar("T")

NAMED_AT_MOST = 10
"""Unusable photographs that the error names; the others are only counted."""

UNFINISHED = ".partial"
KEPT_SECONDS = 7 * 24 * 3600
"""Extension of an unfinished cache file, and how long it is kept for a process that continues it."""

_logger = logging.getLogger(__name__)


class _ChangedError(DataError):
    """The content of a file changed after it was hashed."""


@dataclass(frozen=True)
class PhotoCache:
    """Stored pixels of the photographs that a run uses.

    Attributes:
        path: the Arrow file.
        digest: SHA-256, in hexadecimal, over split and content of every photograph in order; file names and folders
            do not change it.
    """

    path: Path
    digest: str
    _names: dict[str, list[str]]
    _pixels: dict[str, list[NDArray[np.uint8]]]

    def names(self, split: str) -> list[str]:
        """Names of a split's photographs, in the order of ``pixels``."""
        return self._names[split]

    def pixels(self, split: str) -> list[NDArray[np.uint8]]:
        """Stored pixels of a split: read-only ``uint8 (H, W, 3)`` views of the mapped file.

        The shorter side is ``stored_size(image_size)``.
        """
        return self._pixels[split]


def load_cached(
    photo_set: PhotoSet,
    image_size: int,
    cache_dir: Path,
    progress: Progress = no_progress,
    limits: Mapping[str, int] | None = None,
) -> PhotoCache:
    """Loads the pixels of a set from the cache; photographs that are not in it are decoded first.

    Args:
        photo_set: the photographs.
        image_size: side of the crops that will be taken, in pixels.
        cache_dir: folder of cache files and of the hash index; created if missing.
        progress: called with the number of photographs read and decoded.
        limits: number of photographs to use from the start of each split; 0 or no entry means all.

    Raises:
        DataError: some photographs are unusable (all are checked; the message names the first ten), or the folder
            cannot be written.
    """
    photos, problems = hash_photos(photo_set, cache_dir, progress, limits or {})
    rows, size = [row for row, _ in photos], stored_size(image_size)
    metadata = _metadata(size, [path for _, path in photos])
    digest = content_digest(rows)
    path = cache_dir / f"photos-{size}-{_key(digest, metadata)}.arrow"
    pixels = None if problems else _read(path, metadata, rows, logging.WARNING)
    if pixels is None:
        pixels = _build(path, photo_set.root, metadata, photos, size, problems, progress)
    return PhotoCache(path, digest, _by_split(rows, [row.name for row in rows]), _by_split(rows, pixels))


def hash_photos(
    photo_set: PhotoSet, cache_dir: Path, progress: Progress, limits: Mapping[str, int]
) -> tuple[list[tuple[Row, Place]], list[str]]:
    """Hashes the files of a set, up to the limits of ``load_cached``.

    Returns:
        Row and place of each readable photograph, in the order of the splits; and one line for each unreadable file.
    """
    used = [(split, photo) for split in SPLITS for photo in photo_set.splits[split][:limits.get(split) or None]]
    hashes, problems = hash_files([photo.path for _, photo in used], photo_set.root, cache_dir, progress)
    readable = [(Row(photo.name, split, hashes[photo.path]), photo.path) for split, photo in used
                if photo.path in hashes]
    return readable, list(problems.values())


def content_digest(rows: Iterable[Row]) -> str:
    """SHA-256, in hexadecimal, over split and content hash of each row in order."""
    return hashlib.sha256("".join(f"{row.split} {row.sha256}\n" for row in rows).encode()).hexdigest()


def _metadata(size: int, paths: Iterable[Place]) -> dict[str, str]:
    """What the pixels depend on besides the files. Pillow's version is included: its codecs and filters decide them."""
    metadata = {"format": str(arrowfile.FORMAT_VERSION), "decode": str(decode.DECODE_VERSION),
                "pillow": importlib.metadata.version("pillow"), "shorter_side": str(size)}
    if any(content.suffix(path) in formats.HEIF_EXTENSIONS for path in paths):
        metadata["pillow_heif"] = importlib.metadata.version("pillow_heif")
    return metadata


def _key(digest: str, metadata: dict[str, str]) -> str:
    return hashlib.sha256(f"{digest} {sorted(metadata.items())}".encode()).hexdigest()[:16]


def _by_split(rows: Sequence[Row], values: Sequence[T]) -> dict[str, list[T]]:
    return {split: [value for row, value in zip(rows, values, strict=True) if row.split == split] for split in SPLITS}


def _read(path: Path, metadata: dict[str, str], rows: Sequence[Row], level: int) -> list[NDArray[np.uint8]] | None:
    """The pixels, or None without a valid file; needs no lock, since files are replaced atomically."""
    try:
        return arrowfile.read(path, metadata, rows)
    except FileNotFoundError:
        return None
    except arrowfile.BrokenFileError as error:
        _logger.log(level, "%s cannot be used (%s): decoding the photographs again", path, error)
        return None


def _build(
    path: Path,
    root: Path,
    metadata: dict[str, str],
    photos: Sequence[tuple[Row, Place]],
    size: int,
    problems: list[str],
    progress: Progress,
) -> list[NDArray[np.uint8]]:
    """Decodes all photographs into the cache file, from where a killed or interrupted process stopped.

    Raises:
        DataError: a photograph is unusable, in which case no file is written, or the folder cannot be written.
    """
    rows, total = [row for row, _ in photos], len(photos) + len(problems)
    try:
        with alone_in(path.parent):
            # If several workers start together, the first decodes and the others find its file.
            if not problems and (pixels := _read(path, metadata, rows, logging.DEBUG)) is not None:
                return pixels
            with _continued(path) as partial:
                done, after = arrowfile.unfinished(partial, metadata, rows)
                changed: list[Place] = []
                arrowfile.write(partial, metadata, _decoded(photos, done, size, problems, changed, progress), after)
                if changed:
                    forget(changed, root, path.parent)
                if problems:
                    raise DataError(_report(problems, total))
            return arrowfile.read(path, metadata, rows)
    except OSError as error:
        raise DataError(f"the cache cannot be written in {path.parent} ({error.strerror or error}): make room there, "
                        "or choose another folder with data_dir=FOLDER.") from error


@contextmanager
def _continued(path: Path) -> Iterator[Path]:
    """The unfinished file of a cache file, which takes its place at the end of the block.

    It stays if the process is killed or interrupted, and is removed if it cannot be written or a photograph is
    unusable. Those of other caches that nobody has continued for long are removed as well.
    """
    partial = path.with_name(f".{path.name}{UNFINISHED}")
    for other in path.parent.glob(f".*{UNFINISHED}"):
        with contextlib.suppress(OSError):  # somebody else removed it
            if other != partial and time.time() - other.stat().st_mtime > KEPT_SECONDS:
                other.unlink()
    try:
        yield partial
        os.replace(partial, path)
    except (OSError, DataError):
        partial.unlink(missing_ok=True)
        raise


def _decoded(
    photos: Sequence[tuple[Row, Place]],
    start: int,
    size: int,
    problems: list[str],
    changed: list[Place],
    progress: Progress,
) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Yields decoded photographs in order from ``start`` on; errors of the others are appended to ``problems``.

    Each file is hashed again after decoding, since the cache would otherwise keep wrong pixels under its digest. A file
    that changed is also appended to ``changed``.
    """

    def attempt(item: tuple[Row, Place]) -> tuple[Row, NDArray[np.uint8] | DataError]:
        row, path = item
        try:
            pixels = decode.decode_photo(path, size)
            return row, pixels if content.sha256(path) == row.sha256 else _ChangedError(
                f"{content.described(path)}: it changed while it was being read: try again")
        except DataError as error:
            return row, error
        except OSError as error:
            return row, DataError(f"{content.described(path)}: {error.strerror or error}")

    rest = photos[start:]
    results = zip(in_order(attempt, rest), rest, strict=True)
    for done, ((row, result), (_, path)) in enumerate(results, start=start + 1):
        if isinstance(result, DataError):
            problems.append(str(result))
            changed += [path] if isinstance(result, _ChangedError) else []
        else:
            yield row, result
        progress("decoding photographs", done, len(photos))


def _report(problems: list[str], total: int) -> str:
    more = len(problems) - NAMED_AT_MOST
    rest = f"; and {more} more" if more > 0 else ""
    return (f"{len(problems)} of {total} photographs cannot be used: {'; '.join(problems[:NAMED_AT_MOST])}{rest}. "
            "Remove or replace them.")
