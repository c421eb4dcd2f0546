"""Each photograph decoded and resized once; every later epoch, run and process maps the same file of pixels."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inversion.data import arrowfile, decode, formats
from inversion.data.arrowfile import Row
from inversion.data.hashing import forget, hash_files
from inversion.data.splits import SPLITS, Photo, PhotoSet
from inversion.errors import DataError
from inversion.files import alone_in, file_sha256, replacing, shown
from inversion.images import stored_size
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress

T = TypeVar("T")

NAMED_AT_MOST = 10
"""Unusable photographs that are named one by one; of the others only the number is told."""

_logger = logging.getLogger(__name__)


class _ChangedError(DataError):
    """A file that holds something else than it was hashed with."""


@dataclass(frozen=True)
class PhotoCache:
    """Stored pixels of the photographs that a run uses.

    Attributes:
        path: the Arrow file.
        digest: SHA-256, in hexadecimal, over split and content of every photograph in order: the same wherever they
            lie and whatever they are called.
    """

    path: Path
    digest: str
    _names: dict[str, list[str]]
    _pixels: dict[str, list[NDArray[np.uint8]]]

    def names(self, split: str) -> list[str]:
        """Names of a split's photographs, in the order of ``pixels``."""
        return self._names[split]

    def pixels(self, split: str) -> list[NDArray[np.uint8]]:
        """Stored pixels of a split: read-only ``uint8 (H, W, 3)`` views of the mapped file, shorter side
        ``stored_size(image_size)``."""
        return self._pixels[split]


def load_cached(
    photo_set: PhotoSet,
    image_size: int,
    cache_dir: Path,
    progress: Progress = no_progress,
    limits: Mapping[str, int] | None = None,
) -> PhotoCache:
    """The pixels of a set, from the cache or decoded into it now.

    Args:
        photo_set: the photographs.
        image_size: side of the crops that will be taken, in pixels.
        cache_dir: folder of cache files and remembered hashes; made if need be.
        progress: told the photographs read and decoded.
        limits: by split, how many photographs to use, from the first; 0 or no entry means all.

    Raises:
        DataError: photographs that cannot be used (all of them are looked at, the message names the first ten), or a
            folder that cannot be written.
    """
    used = [(split, photo) for split in SPLITS for photo in _first(photo_set.splits[split], (limits or {}).get(split))]
    hashes, problems = hash_files([photo.path for _, photo in used], photo_set.root, cache_dir, progress)
    photos = [(Row(photo.name, split, hashes[photo.path]), photo.path) for split, photo in used
              if photo.path in hashes]
    rows, size = [row for row, _ in photos], stored_size(image_size)
    metadata = _metadata(size, [path for _, path in photos])
    digest = content_digest(rows)
    path = cache_dir / f"photos-{size}-{_key(digest, metadata)}.arrow"
    pixels = None if problems else _read(path, metadata, rows, logging.WARNING)
    if pixels is None:
        pixels = _build(path, photo_set.root, metadata, photos, size, list(problems.values()), progress)
    return PhotoCache(path, digest, _by_split(rows, [row.name for row in rows]), _by_split(rows, pixels))


def content_digest(rows: Iterable[Row]) -> str:
    """SHA-256, in hexadecimal, over split and content hash of each row in order."""
    return hashlib.sha256("".join(f"{row.split} {row.sha256}\n" for row in rows).encode()).hexdigest()


def _first(photos: list[Photo], limit: int | None) -> list[Photo]:
    return photos[:limit] if limit else photos


def _metadata(size: int, paths: Iterable[Path]) -> dict[str, str]:
    """What the pixels depend on beside the files. Pillow is part of it: its codecs and filters make the pixels."""
    metadata = {"format": str(arrowfile.FORMAT_VERSION), "decode": str(decode.DECODE_VERSION),
                "pillow": importlib.metadata.version("pillow"), "shorter_side": str(size)}
    if any(path.suffix.lower() in formats.HEIF_EXTENSIONS for path in paths):
        metadata["pillow_heif"] = importlib.metadata.version("pillow_heif")
    return metadata


def _key(digest: str, metadata: dict[str, str]) -> str:
    return hashlib.sha256(f"{digest} {sorted(metadata.items())}".encode()).hexdigest()[:16]


def _by_split(rows: Sequence[Row], values: Sequence[T]) -> dict[str, list[T]]:
    return {split: [value for row, value in zip(rows, values, strict=True) if row.split == split] for split in SPLITS}


def _read(path: Path, metadata: dict[str, str], rows: Sequence[Row], level: int) -> list[NDArray[np.uint8]] | None:
    """The pixels if there is a good file; needs no lock, since files are replaced whole."""
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
    photos: Sequence[tuple[Row, Path]],
    size: int,
    problems: list[str],
    progress: Progress,
) -> list[NDArray[np.uint8]]:
    """Decodes all photographs into the file; with one that cannot be used, there is no file but an error."""
    rows, total = [row for row, _ in photos], len(photos) + len(problems)
    try:
        with alone_in(path.parent):
            # Of several workers that begin together, the first one decodes and the others find its file.
            if not problems and (pixels := _read(path, metadata, rows, logging.DEBUG)) is not None:
                return pixels
            with replacing(path) as temporary:
                changed: list[Path] = []
                arrowfile.write(temporary, metadata, _decoded(photos, size, problems, changed, progress))
                if changed:
                    forget(changed, root, path.parent)
                if problems:
                    raise DataError(_report(problems, total))
            return arrowfile.read(path, metadata, rows)
    except OSError as error:
        raise DataError(f"the cache cannot be written in {path.parent} ({error.strerror or error}): make room there, "
                        "or choose another folder with data_dir=FOLDER.") from error


def _decoded(
    photos: Sequence[tuple[Row, Path]], size: int, problems: list[str], changed: list[Path], progress: Progress
) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Decoded photographs in order; what cannot be decoded is added to ``problems`` instead.

    A file must hold what it was hashed with: else other pixels would stand under its digest for good. What does not is
    added to ``changed`` too.
    """

    def attempt(item: tuple[Row, Path]) -> tuple[Row, NDArray[np.uint8] | DataError]:
        row, path = item
        try:
            pixels = decode.decode_photo(path, size)
            return row, pixels if file_sha256(path) == row.sha256 else _ChangedError(
                f"{shown(path)}: it changed while it was being read: try again")
        except DataError as error:
            return row, error
        except OSError as error:
            return row, DataError(f"{shown(path)}: {error.strerror or error}")

    for done, ((row, result), (_, path)) in enumerate(zip(in_order(attempt, photos), photos, strict=True), start=1):
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
