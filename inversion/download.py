"""Download of one large file over HTTP: resumable, verified by checksum, and moved into place only when complete."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import requests

from inversion import retry
from inversion.errors import DataError, RequestError
from inversion.files import file_sha256
from inversion.progress import Progress, no_progress

TRIES = 5
"""Consecutive attempts without new data before the download fails."""

PAUSE_SECONDS = 0.5
"""Pause after the first interruption; doubled after every attempt without new data."""

TIMEOUT_SECONDS = (10, 60)
"""Connect timeout and read timeout."""

CHUNK_BYTES = 1 << 14
"""Bytes read at a time. urllib3 discards an incomplete chunk when the connection breaks, so chunks are small."""

_INTERRUPTIONS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
                  requests.exceptions.ContentDecodingError)

_logger = logging.getLogger(__name__)


class _InterruptedError(retry.TransientError):
    """The transfer broke off, or the server is temporarily unavailable; the message says which. It can be retried."""


class _RefusedError(Exception):
    """The server does not provide this file; a retry would not help."""


def download(url: str, target: Path, size: int, sha256: str, progress: Progress = no_progress,
             error: type[RequestError] = DataError, elsewhere: str = "with data_dir=FOLDER") -> None:
    """Downloads ``url`` to ``target``; resumes from ``target.part`` if an earlier call was interrupted.

    An existing target with the right checksum is kept.

    Args:
        url: an HTTP or HTTPS address.
        target: the file to write; its folder is created.
        size: its expected size in bytes.
        sha256: its expected SHA-256 in hexadecimal, or a prefix of it.
        progress: called with the bytes so far and in all.
        error: the class of the error that is raised.
        elsewhere: how the user can choose another folder, for error messages.

    Raises:
        RequestError: of class ``error``: the server refuses, cannot be reached or has a file of another size, the
            checksum is wrong, or the disk is full. ``target.part`` is deleted after a wrong checksum, and otherwise
            kept for the next call.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and file_sha256(target).startswith(sha256):
            return
        if _length(part) > size:
            part.unlink()
        require_space(target.parent, size - _length(part), error, elsewhere)
        _complete(url, target, part, size, progress)
        got = file_sha256(part)
        if not got.startswith(sha256):
            part.unlink()
            raise error(f"{url}: wrong content (SHA-256 {got}, expected {sha256}); it was removed. Try again, or "
                        f"save the right file as {target}.")
        os.replace(part, target)
    except (_InterruptedError, _RefusedError) as failure:
        raise error(str(failure)) from failure
    except OSError as problem:
        raise error(f"{target.parent} cannot be written ({problem.strerror or problem}): choose another folder "
                    f"{elsewhere}.") from problem


def require_space(folder: Path, needed: int, error: type[RequestError] = DataError,
                  elsewhere: str = "with data_dir=FOLDER") -> None:
    """Raises ``error`` unless ``needed`` bytes are free on the disk of ``folder``, which must exist."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise error(f"{folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free. Make room, or choose "
                    f"another folder {elsewhere}.")


def _complete(url: str, target: Path, part: Path, size: int, progress: Progress) -> None:
    """Retries until the part has its full size.

    Only bytes beyond the longest part so far count as progress: with a server that breaks off and cannot resume, the
    attempts would never end otherwise.
    """
    best, failures = _length(part), 0
    while _length(part) < size:
        try:
            for have in _transfer(url, part, size):
                progress(f"downloading {target.name}", have, size)
            continue
        except _InterruptedError as error:
            interruption = error
        have = _length(part)
        best, failures = (have, 0) if have > best else (best, failures + 1)
        pause = retry.pause_seconds(failures + 1, interruption.retry_after, PAUSE_SECONDS)
        if failures == TRIES or pause is None:
            later = f" after {interruption.retry_after} (its Retry-After)" if pause is None else ""
            raise _InterruptedError(f"{url} cannot be downloaded ({interruption}). Check the network and the proxy and "
                                    f"run the same command again{later}, it resumes at {have} of {size} bytes; or save "
                                    f"the file as {target}.")
        _logger.info("%s was interrupted at %d of %d bytes (%s); retrying", url, have, size, interruption)
        retry.sleep(pause)


def _transfer(url: str, part: Path, size: int) -> Iterator[int]:
    """Sends one request and appends the body to the part; yields the part's length in bytes.

    Returns without an error only at the full size.
    """
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
    except _INTERRUPTIONS as error:
        raise _InterruptedError(_cause(error)) from error
    except requests.RequestException as error:  # a subclass of OSError
        raise _RefusedError(f"{url}: {error}") from error
    raise _InterruptedError("the connection ended early")


def _start(response: requests.Response, url: str, part: Path, have: int, size: int) -> int:
    """The offset in bytes at which the response's body starts: ``have``, or 0 if the server does not resume.

    Raises:
        _InterruptedError: a transient status, or the server cannot resume from this part, which is then deleted.
        _RefusedError: any other error status, or a file of another size.
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
        raise _InterruptedError(f"the server answered {status} {response.reason}", response.headers.get("Retry-After"))
    if status in (requests.codes.partial_content, requests.codes.requested_range_not_satisfiable):
        part.unlink(missing_ok=True)
        raise _InterruptedError("the server cannot resume from here")
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
