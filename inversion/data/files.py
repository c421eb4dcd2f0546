"""Files that are whole or not there, and names that can be shown."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inversion.text import visible

ABANDONED_AFTER_SECONDS = 24 * 3600
"""Temporary files this old belong to processes that were killed."""

LOCK_NAME = ".lock"

_logger = logging.getLogger(__name__)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which takes the place of ``path`` when the block ends without an error.

    A reader sees the old file or the new one, never a half; an error of any kind leaves no temporary file behind.

    Raises:
        OSError: the folder cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, for which other processes wait; the system frees it when its holder dies.

    Raises:
        OSError: the folder cannot be made or written.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _logger.info("waiting for another process that is at work in %s", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(path: Path | str) -> str:
    """A path as text that any terminal and file format can hold.

    Bytes that are not UTF-8 become question marks, control characters escapes.
    """
    return visible(os.fsencode(path).decode("utf-8", "replace"))


def why_not_writable(folder: Path) -> str:
    """Why no file can be written into a folder, which would be made first if need be; empty if nothing is against it.

    Nothing is made, so that it can be asked long before something is to be written.
    """
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            os.lstat(place)
        except FileNotFoundError:
            continue
        except OSError as error:
            return error.strerror or str(error)
        if not os.path.isdir(place):
            return os.strerror(errno.ENOTDIR)
        return "" if os.access(place, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    return ""


def _remove_abandoned(path: Path) -> None:
    """Removes what a killed process left of the same file; young ones may still be written by somebody."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                leftover.unlink()
        except OSError:  # somebody else removed it
            continue
