"""One large file over HTTP: resumed after every cut, checked, and in place only when it is right."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from inversion import retry
from inversion.errors import DataError, RequestError

TRIES = 5
"""Tries in a row that bring nothing new before we give up."""

PAUSE_SECONDS = 0.5
"""Pause after the first cut; doubled with every try that brings nothing."""

TIMEOUT_SECONDS = (10, 60)
"""To connect, and between two pieces of the answer."""

CHUNK_BYTES = 1 << 14
"""Read at a time. Of a connection that is cut, urllib3 throws an unfinished chunk away: large ones would be lost."""

Progress = Callable[[str, int, int], None]

_CUTS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
         requests.exceptions.ContentDecodingError)

_logger = logging.getLogger(__name__)


class _CutError(retry.PassingError):
    """The transfer ended early, or was refused for now; the message says how. Another try may help."""


class _RefusedError(Exception):
    """The server has no such file for us, and another try would not help."""


def download(url: str, target: Path, size: int, sha256: str, progress: Progress = lambda *_: None,
             error: type[RequestError] = DataError, elsewhere: str = "with data_dir=FOLDER") -> None:
    """Downloads ``url`` to ``target``, going on from ``target.part`` where an earlier call was interrupted.

    A target that is there already is kept if its content is right.

    Args:
        url: an HTTP or HTTPS address.
        target: the file to make; its folder is made too.
        size: its expected size in bytes.
        sha256: its expected SHA-256 in hexadecimal, or the beginning of it.
        progress: told the bytes so far and in all.
        error: the kind of what is raised.
        elsewhere: how to choose another folder, for the messages.

    Raises:
        RequestError: of the kind ``error``: the server refuses, cannot be reached or has another file, the content is
            wrong (the part is removed then), or the disk is full. In all other cases the part stays, for the next call.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and _sha256(target).startswith(sha256):
            return
        if _length(part) > size:
            part.unlink()
        require_space(target.parent, size - _length(part), error, elsewhere)
        _complete(url, target, part, size, progress)
        got = _sha256(part)
        if not got.startswith(sha256):
            part.unlink()
            raise error(f"{url}: wrong content (SHA-256 {got}, expected {sha256}); it was removed. Try again, or "
                        f"save the right file as {target}.")
        os.replace(part, target)
    except (_CutError, _RefusedError) as refusal:
        raise error(str(refusal)) from refusal
    except OSError as problem:
        raise error(f"{target.parent} cannot be written ({problem.strerror or problem}): choose another folder "
                    f"{elsewhere}.") from problem


def require_space(folder: Path, needed: int, error: type[RequestError] = DataError,
                  elsewhere: str = "with data_dir=FOLDER") -> None:
    """Raises ``error`` unless ``needed`` bytes are free in the folder, which must exist."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise error(f"{folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free. Make room, or choose "
                    f"another folder {elsewhere}.")


def _complete(url: str, target: Path, part: Path, size: int, progress: Progress) -> None:
    """Tries until the part has its full size. Only what goes beyond the best try so far counts as progress, so that
    a server which cuts and cannot resume does not keep us for ever."""
    best, failures = _length(part), 0
    while _length(part) < size:
        try:
            for have in _transfer(url, part, size):
                progress(f"downloading {target.name}", have, size)
            continue
        except _CutError as error:
            cut = error
        have = _length(part)
        best, failures = (have, 0) if have > best else (best, failures + 1)
        pause = retry.pause_seconds(failures + 1, cut.retry_after, PAUSE_SECONDS)
        if failures == TRIES or pause is None:
            later = f" after {cut.retry_after} (its Retry-After)" if pause is None else ""
            raise _CutError(f"{url} cannot be downloaded ({cut}). Check the network and the proxy and run the same "
                            f"command again{later}, it goes on at {have} of {size} bytes; or save the file as "
                            f"{target}.")
        _logger.info("%s was cut at %d of %d bytes (%s); trying again", url, have, size, cut)
        retry.sleep(pause)


def _transfer(url: str, part: Path, size: int) -> Iterator[int]:
    """One request, written to the part; yields the part's length. Ends without an error only at the full size."""
    have = _length(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            have = _start(response, url, part, have, size)
            with part.open("r+b" if have else "wb") as file:
                file.seek(have)
                for chunk in response.iter_content(CHUNK_BYTES):
                    have += file.write(chunk[: size - have])
                    yield have
                    if have == size:
                        return
    except _CUTS as error:
        raise _CutError(_cause(error)) from error
    except requests.RequestException as error:  # before OSError, which it is too
        raise _RefusedError(f"{url}: {error}") from error
    raise _CutError("the connection ended early")


def _start(response: requests.Response, url: str, part: Path, have: int, size: int) -> int:
    """The byte at which this answer begins: ``have``, or 0 where the server does not resume.

    Raises:
        _CutError: a passing refusal, or a part that the server does not know how to go on from (it is removed).
        _RefusedError: a lasting refusal, or a file of another size.
    """
    status = response.status_code
    if status == requests.codes.partial_content and have:
        begins, _, whole = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        _check_size(url, whole, size)
        if begins.startswith(f"{have}-"):
            return have
    if status == requests.codes.ok:
        _check_size(url, response.headers.get("Content-Length", ""), size)
        return 0
    if retry.is_transient(status):
        raise _CutError(f"the server answered {status} {response.reason}", response.headers.get("Retry-After"))
    if status in (requests.codes.partial_content, requests.codes.requested_range_not_satisfiable):
        part.unlink(missing_ok=True)
        raise _CutError("the server cannot go on from here")
    raise _RefusedError(f"{url}: the server answered {status} {response.reason}")


def _check_size(url: str, announced: str, size: int) -> None:
    if announced.isdigit() and int(announced) != size:
        raise _RefusedError(f"{url}: the server has a file of {announced} bytes, expected {size}: not the same file")


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended early"
    if isinstance(error, requests.exceptions.ReadTimeout):
        return f"no answer for {TIMEOUT_SECONDS[1]} seconds"
    return str(error)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
