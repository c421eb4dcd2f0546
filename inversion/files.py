"""Files that are whole or not there, paths as users type them, and names that can be shown."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import logging
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inversion.errors import RequestError
from inversion.text import visible

ABANDONED_AFTER_SECONDS = 24 * 3600
"""Temporary files this old belong to processes that were killed."""

LOCK_NAME = ".lock"
WAIT_SECONDS = 1.0

ABSENT = "no such file or folder"

LONGEST = 100
"""Characters of a name in a file name. Systems take 255 bytes, and MLflow adds about 90 to an image's key."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever its extension."""

_KINDS = ((stat.S_ISFIFO, "a FIFO (named pipe)"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"),
          (stat.S_ISCHR, "a character device"), (stat.S_ISBLK, "a block device"))

_logger = logging.getLogger(__name__)


class NotRegularFileError(OSError):
    """A FIFO, a device, a socket or a folder where a file is needed; ``strerror`` says which."""


def user_path(text: str, name: str) -> Path:
    """A path as a user typed it for ``name``, with ``~`` expanded.

    Raises:
        RequestError: it is empty or blank, or names the home of a user who does not exist.
    """
    if not text.strip():
        raise RequestError(f"{name}: an empty text ({text!r}) is no path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{name}: {text!r} begins with the home folder of a user who does not exist") from error


def require_text(path: Path, name: str) -> None:
    """Raises a RequestError for a path that is no text in UTF-8: it could be used, but not written down anywhere."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        raise RequestError(f"{name}: {shown(path)!r} has bytes that are not UTF-8, which no tracking store takes: "
                           "rename it") from None


def require_regular(path: Path | str) -> os.stat_result:
    """The status of a regular file, links followed. Nothing is opened: opening a FIFO waits, a device may act.

    Raises:
        NotRegularFileError: it is something else.
        OSError: it is not there, or cannot be looked at.
    """
    return _checked(os.stat(path), path)


def open_regular(path: Path | str) -> io.BufferedReader:
    """Opens a regular file for reading, and never waits for a writer.

    Raises:
        NotRegularFileError: it is a FIFO, a device, a socket or a folder.
        OSError: it cannot be opened.
    """
    require_regular(path)
    # Something else may lie there by now: without O_NONBLOCK, opening a FIFO would wait.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _checked(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def is_there(path: Path) -> bool:
    """Whether something exists at a path, links followed.

    ``Path.exists`` raises an OSError if a folder may not be entered or a name is too long; ``os.path.exists`` says
    that nothing is there.

    Raises:
        RequestError: it cannot be told; the message says why.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise RequestError(f"{shown(path)} cannot be accessed: {error.strerror or error}") from error
    return True


def resolved(path: str | Path) -> Path:
    """The absolute path with links followed; with links in a circle, up to there (``Path.resolve`` may raise)."""
    return Path(os.path.realpath(path))


def why_not_there(path: Path) -> str:
    """Why nothing can be found at a path: it does not exist, or the system's reason; empty if something is there."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "a link to nowhere" if os.path.islink(path) else ABSENT
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:  # a null character
        return ABSENT
    return ""


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
def alone_in(folder: Path, while_waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds the folder's lock, for which other processes wait; the system frees it when its holder dies.

    Args:
        folder: the folder, which is made if there is none.
        while_waiting: called every second while another process holds the lock. It may raise.

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
        while not lock.is_locked:
            if while_waiting is not None:
                while_waiting()
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=WAIT_SECONDS)
    try:
        yield
    finally:
        lock.release()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path) -> str:
    """As ``file_sha256``, but a process reads a file again only if its size or modification time has changed."""
    state = path.stat()
    return _known_sha256(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _known_sha256(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)


def shown(path: Path | str) -> str:
    """A path as text that any terminal and file format can hold.

    Bytes that are not UTF-8 become question marks, control characters escapes.
    """
    return visible(os.fsencode(path).decode("utf-8", "replace"))


def safe_name(name: str) -> str:
    """A photograph's name with only the characters that MLflow takes in keys and in artifact paths.

    A long one keeps its beginning, and ends in a digest of the whole, so that two of them stay two.
    """
    safe = re.sub(r"[^A-Za-z0-9_. -]", "_", name)
    if len(safe) <= LONGEST:
        return safe
    return f"{safe[:LONGEST - 13]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}"


def safe_file_name(text: str) -> str:
    """Text as a part of a file name that every system and shell takes: ``vgg16:block1+wavelet`` with a dash.

    It is cut, and two texts can become one: ``unique`` tells them apart.
    """
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.")[:LONGEST] or "picture"
    return _RESERVED.sub(r"\1-", safe, count=1) if _RESERVED.match(safe) else safe


def unique(names: Sequence[str]) -> list[str]:
    """The names; one that came before (or is a numbered one's) gets ``-2``, ``-3`` … before its extension ``.png``.

    Capitals do not count: on many systems, ``Cat.png`` and ``cat.png`` are one file.
    """
    given: dict[str, str] = {}
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in given:
            number += 1
            candidate = f"{name.removesuffix('.png')}-{number}{'.png' if name.endswith('.png') else ''}"
        given[candidate.casefold()] = candidate
    return list(given.values())


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
        if os.path.islink(place) and not os.path.exists(place):
            return "it is a link to nowhere"
        if not os.path.isdir(place):
            return os.strerror(errno.ENOTDIR)
        return "" if os.access(place, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    return ""


def _checked(status: os.stat_result, path: Path | str) -> os.stat_result:
    if stat.S_ISREG(status.st_mode):
        return status
    kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "something else")
    raise NotRegularFileError(errno.EINVAL, f"{kind}, not a regular file", os.fspath(path))


def _remove_abandoned(path: Path) -> None:
    """Removes what a killed process left of the same file; young ones may still be written by somebody."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime > ABANDONED_AFTER_SECONDS:
                leftover.unlink()
        except OSError:  # somebody else removed it
            continue
