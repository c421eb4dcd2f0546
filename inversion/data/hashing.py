"""SHA-256 of image files, kept in an index so that a second start need not read gigabytes again."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inversion.data import content
from inversion.data.content import Place
from inversion.files import replacing
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress

INDEX_VERSION = 1

MOST_BYTES = 2**31
"""Largest size of an image file: 100 megapixels of four 16-bit channels are 0.8 GB. Sparse files can be far larger."""

TOO_YOUNG_NS = 2_000_000_000
"""Files modified this recently are not indexed: they could change again within the resolution of their timestamp."""

SAVED_EVERY_SECONDS = 60.0
"""The index is written so often, so that a killed process does not have to begin anew."""

Index = dict[str, list[Any]]
"""Path to size in bytes, modification time in nanoseconds, SHA-256."""

_logger = logging.getLogger(__name__)


def hash_files(
    paths: Sequence[Place], root: Path, index_folder: Path, progress: Progress = no_progress
) -> tuple[dict[Place, str], dict[Place, str]]:
    """SHA-256 of each photograph; one is read only if its size or modification time differs from the index.

    The index is only a cache: if it is damaged, a new one is started; if it cannot be written, that is logged.

    Returns:
        The hashes in hexadecimal by path; and, by path, an error line for each unreadable file.
    """
    index_path = _index_path(root, index_folder)
    began, save_at = time.time_ns(), time.monotonic() + SAVED_EVERY_SECONDS
    index = _read_index(index_path)
    hashes: dict[Place, str] = {}
    unreadable: dict[Place, str] = {}
    fresh: Index = {}
    entries = in_order(lambda path: _entry(path, index), paths)
    for done, (path, entry) in enumerate(zip(paths, entries, strict=True), start=1):
        if isinstance(entry, OSError):
            unreadable[path] = f"{content.described(path)}: {entry.strerror or entry}"
        else:
            hashes[path] = entry[2]
            fresh[content.key(path)] = entry
        if time.monotonic() > save_at:
            _write_new(index_path, index, fresh, began)
            save_at = time.monotonic() + SAVED_EVERY_SECONDS
        progress("reading photographs", done, len(paths))
    _write_new(index_path, index, fresh, began)
    return hashes, unreadable


def _write_new(index_path: Path, index: Index, fresh: Index, began: int) -> None:
    """Adds new entries to the index, but those of files that have just changed."""
    keep = {path: entry for path, entry in fresh.items() if began - entry[1] > TOO_YOUNG_NS}
    if any(index.get(path) != entry for path, entry in keep.items()):
        _write_index(index_path, index | keep)


def forget(paths: Sequence[Place], root: Path, index_folder: Path) -> None:
    """Removes files from the index, because their content does not match it."""
    index_path = _index_path(root, index_folder)
    gone = {content.key(path) for path in paths}
    _write_index(index_path, {path: entry for path, entry in _read_index(index_path).items() if path not in gone})


def _entry(path: Place, index: Index) -> list[Any] | OSError:
    try:
        size, changed = content.stamp(path)
        known = index.get(content.key(path))
        if known is not None and known[:2] == [size, changed]:
            return known
        if size > MOST_BYTES:
            return OSError(errno.EFBIG, f"{size:,} bytes are more than any photograph has")
        return [size, changed, content.sha256(path)]
    except OSError as error:
        return error


def _index_path(root: Path, index_folder: Path) -> Path:
    return index_folder / f"hashes-{_text_sha256(str(root.resolve()))[:16]}.json"


def _text_sha256(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _read_index(path: Path) -> Index:
    try:
        stored = json.loads(path.read_text("ascii"))
        files = stored["files"] if stored["version"] == INDEX_VERSION else {}
        return {name: [int(size), int(changed), str(sha)] for name, (size, changed, sha) in files.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        _logger.warning("%s is broken: all photographs are read again", path)
        return {}


def _write_index(path: Path, index: Index) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({"version": INDEX_VERSION, "files": index}), "ascii")
    except OSError as error:
        _logger.warning("%s cannot be written (%s): all photographs will be read again next time", path, error)
