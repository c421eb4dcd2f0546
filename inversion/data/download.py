"""One large file over HTTP: resumed after every cut, checked, and in place only when it is right."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from inversion.data.files import file_sha256
from inversion.data.progress import Progress, quiet
from inversion.errors import DataError

TRIES = 5
"""Tries in a row that bring nothing new before we give up."""

PAUSE_SECONDS = 0.5
"""Pause after the first cut; doubled with every try that brings nothing."""

TIMEOUT_SECONDS = (10, 60)
"""To connect, and between two pieces of the answer."""

CHUNK_BYTES = 1 << 14
"""Read at a time. Of a connection that is cut, urllib3 throws an unfinished chunk away: large ones would be lost."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CUTS = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError,
         requests.exceptions.ContentDecodingError)

_logger = logging.getLogger(__name__)


class _CutError(Exception):
    """The transfer ended early; the message says how. Another try may help."""


def download(url: str, target: Path, size: int, sha256: str, progress: Progress = quiet) -> None:
    """Downloads ``url`` to ``target``, going on from ``target.part`` where an earlier call was interrupted.

    A target that is there already is kept if its content is right.

    Args:
        url: an HTTP or HTTPS address.
        target: the file to make; its folder is made too.
        size: its expected size in bytes.
        sha256: its expected SHA-256 in hexadecimal.
        progress: told the bytes so far and in all.

    Raises:
        DataError: the server refuses, cannot be reached or has another file, the content is wrong (the part is
            removed then), or the disk is full. In all other cases the part stays, for the next call.
    """
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file() and file_sha256(target) == sha256:
            return
        if _length(part) > size:
            part.unlink()
        require_space(target.parent, size - _length(part))
        _complete(url, target, part, size, progress)
        got = file_sha256(part)
        if got != sha256:
            part.unlink()
            raise DataError(f"{url}: wrong content (SHA-256 {got}, expected {sha256}); it was removed. Try again, or "
                            f"save the right file as {target}.")
        os.replace(part, target)
    except OSError as error:
        raise DataError(f"{target.parent} cannot be written ({error.strerror or error}): choose another folder with "
                        "data_dir=FOLDER.") from error


def require_space(folder: Path, needed: int) -> None:
    """Raises DataError unless ``needed`` bytes are free in the folder, which must exist."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(f"{folder}: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free. Make room, or choose "
                        "another folder with data_dir=FOLDER.")


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
            reason = str(error)
        have = _length(part)
        best, failures = (have, 0) if have > best else (best, failures + 1)
        if failures == TRIES:
            raise DataError(f"{url} cannot be downloaded ({reason}). Check the network and the proxy and run the same "
                            f"command again, it goes on at {have} of {size} bytes; or save the file as {target}.")
        _logger.info("%s was cut at %d of %d bytes (%s); trying again", url, have, size, reason)
        time.sleep(PAUSE_SECONDS * 2**failures)


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
        raise DataError(f"{url}: {error}") from error
    raise _CutError("the connection ended early")


def _start(response: requests.Response, url: str, part: Path, have: int, size: int) -> int:
    """The byte at which this answer begins: ``have``, or 0 where the server does not resume.

    Raises:
        _CutError: a passing refusal, or a part that the server does not know how to go on from (it is removed).
        DataError: a lasting refusal, or a file of another size.
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
    if status in _PASSING:
        raise _CutError(f"the server answered {status} {response.reason}")
    if status in (requests.codes.partial_content, requests.codes.requested_range_not_satisfiable):
        part.unlink(missing_ok=True)
        raise _CutError("the server cannot go on from here")
    raise DataError(f"{url}: the server answered {status} {response.reason}")


def _check_size(url: str, announced: str, size: int) -> None:
    if announced.isdigit() and int(announced) != size:
        raise DataError(f"{url}: the server has a file of {announced} bytes, expected {size}: not the same file")


def _cause(error: requests.RequestException) -> str:
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection ended early"
    if isinstance(error, requests.exceptions.ReadTimeout):
        return f"no answer for {TIMEOUT_SECONDS[1]} seconds"
    return str(error)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
