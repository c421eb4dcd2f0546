"""Files of pretrained weights: lookup in torchvision's and Hugging Face's caches, and download from their servers.

This module does not import PyTorch.
"""

from __future__ import annotations

import http
import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from inversion.errors import WeightsError
from inversion.files import known_sha256
from inversion.text import reason

if TYPE_CHECKING:
    import requests

Status = Literal["cached", "downloadable", "unreachable"]
Files = tuple[tuple[str, str], ...]

PROBE_SECONDS = 3.0
REMEMBERED_SECONDS = 60.0

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""The files that timm looks for in a Hugging Face repository, in its order."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Location:
    """A location of weights: a file at ``url``, or one of ``files`` in the Hugging Face repository ``repo``."""

    url: str = ""
    repo: str = ""
    files: tuple[str, ...] = HUB_FILES
    option: str = "weights"
    """The parameter that accepts a file instead, for error messages; empty if none does."""

    @property
    def or_file(self) -> str:
        """The end of a message that says what to do."""
        return f", or give {self.option}=FILE" if self.option else ""

    @property
    def repository(self) -> str:
        """``repo`` without its revision."""
        return self.repo.partition("@")[0]

    @property
    def revision(self) -> str | None:
        """The part of ``repo`` after ``@``."""
        return self.repo.partition("@")[2] or None


def location_status(location: Location) -> Status:
    """Whether weights are cached, downloadable or unreachable; the server's answer is reused for a minute.

    Raises:
        WeightsError: the server answered with an error, or is busy for too long.
    """
    if cached_file(location):
        return "cached"
    return _probe(location, _files_to_request(location), int(time.monotonic() / REMEMBERED_SECONDS))


def torch_checkpoints() -> Path:
    """torchvision's download folder, as given by ``torch.hub.get_dir``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints"


def cached_file(location: Location) -> Path | None:
    """The weights in torchvision's or Hugging Face's cache, if they are there.

    In Hugging Face's cache the current revision is preferred, then the newest of the others.
    """
    if not location.repo:
        file = torch_checkpoints() / _file_name(location)
        return file if os.path.isfile(file) else None
    import huggingface_hub

    for name in location.files:
        cached = huggingface_hub.try_to_load_from_cache(location.repository, name, revision=location.revision)
        if isinstance(cached, str):  # for a file known to be missing in the repository, it is another object
            return Path(cached)
    return None if location.revision else _of_another_revision(location)


def fetch(location: Location) -> Path:
    """The path of the weights in their library's cache; downloads them, or resumes the download, if necessary.

    Raises:
        WeightsError: the server is unreachable, busy for too long, or refuses.
    """
    try:
        return cached_file(location) or (_from_hub(location) if location.repo else _from_url(location))
    except _UnreachableError as error:
        raise WeightsError(f"{location.repo or location.url} is not cached, and its server is unreachable: connect"
                           f"{location.or_file}") from error


@contextmanager
def usable_file(location: Location, name: str) -> Iterator[Path]:
    """Yields the path of the weights, downloaded if they are not cached, and with the SHA-256 that their name begins.

    Any exception in the block becomes a WeightsError with the path. It names the target of a link, since that must be
    deleted.

    Args:
        location: where the weights are.
        name: what they are called in messages.

    Raises:
        WeightsError: the weights cannot be downloaded, are not those of their name, or cannot be loaded.
    """
    path = fetch(location)
    try:
        _require_named_content(path, _hash_in_name(location))
        yield path
    except Exception as error:  # files, unpicklers and models raise too many kinds of errors to list
        why = str(error) if isinstance(error, WeightsError) else reason(error)
        raise WeightsError(f"{name} cannot be loaded from {path.parent}: {why.removesuffix('.')}. If the download was "
                           f"cut short, delete {path.resolve()}, and it is downloaded again") from error


def _require_named_content(path: Path, beginning: str) -> None:
    """Raises a WeightsError if a file's SHA-256 does not begin so: digests of runs rely on the name."""
    if beginning and not (found := known_sha256(path)).startswith(beginning):
        raise WeightsError(f"{path.name} has other content than its name says: its SHA-256 begins with "
                           f"{found[:len(beginning)]} (weights of your own are given as a file)")


def _hash_in_name(location: Location) -> str:
    """The beginning of the SHA-256 in torchvision's file names, as in ``vgg16-397923af.pth``; else empty."""
    found = None if location.repo else re.search(r"-([0-9a-f]{8,})\.", _file_name(location))
    return found[1] if found else ""


def _file_name(location: Location) -> str:
    return PurePosixPath(urlsplit(location.url).path).name


def _of_another_revision(location: Location) -> Path | None:
    """A file of ``snapshot_download`` or another revision; the library itself only looks for ``main``."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=location.repository, repo_type="model"), "snapshots")
    for name in location.files:
        if found := [file for file in folder.glob(f"*/{name}") if os.path.isfile(file)]:
            newest = max(found, key=lambda file: file.stat().st_mtime)
            _logger.info("%s: main is not cached, using revision %s", location.repo, newest.parent.name)
            return newest
    return None


def _from_url(location: Location) -> Path:
    """Downloads a file to torchvision's cache; its name contains the start of its SHA-256."""
    import filelock

    from inversion.download import download

    target = torch_checkpoints() / _file_name(location)
    size = int(_request_first(location, _files_to_request(location))[1].headers.get("Content-Length", 0))
    if not size:
        raise WeightsError(f"{location.url}: the server does not report the size of the file: save it as {target}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # other processes may download the same file
        with filelock.FileLock(f"{target}.lock"), _progress_bar(target.name, size) as bar:
            download(location.url, target, size, _hash_in_name(location),
                     lambda _, done, __: bar.update(done - bar.n), WeightsError, "with TORCH_HOME")
    except OSError as error:
        raise WeightsError(f"{target.parent} cannot be written ({error.strerror or error}): choose another folder with "
                           "TORCH_HOME") from error
    return target


def _progress_bar(name: str, size: int) -> Any:
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    bar: Any = tqdm  # untyped
    return bar(desc=name, total=size, unit="B", unit_scale=True, leave=False, disable=not sys.stderr.isatty())


def _from_hub(location: Location) -> Path:
    """Downloads a file with Hugging Face's library, which resumes interrupted downloads."""
    from inversion.retry import TransientError, retrying

    name = _request_first(location, _files_to_request(location))[0]
    try:
        return retrying(partial(_download_from_hub, location, name))
    except TransientError as error:
        raise WeightsError(f"{location.repo}: {name} cannot be downloaded from Hugging Face ({error}): try again "
                           f"later{location.or_file}") from error


def _download_from_hub(location: Location, name: str) -> Path:
    import huggingface_hub

    from inversion.retry import TransientError, is_transient

    try:
        return Path(huggingface_hub.hf_hub_download(location.repository, name, revision=location.revision))
    except Exception as error:  # from its HTTP library, itself or the operating system
        response, text = _response_of(error), reason(error)
        if response is not None and is_transient(response.status_code):
            raise TransientError(f"HTTP status {_status(response.status_code)}",
                                 response.headers.get("Retry-After")) from error
        if "Consistency check failed" in text or _was_interrupted(error):  # fewer bytes than announced
            raise TransientError("the connection ended early") from error
        raise WeightsError(f"{location.repo}: {name} cannot be downloaded from Hugging Face: {text}") from error


def _response_of(error: BaseException | None) -> Any:
    """The HTTP response of an error or of one of its causes."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return response
        error = error.__cause__ or error.__context__
    return None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an established connection broke or timed out.

    Compared by class name: versions of Hugging Face's library use requests or httpx, with the same names of errors.
    """
    while error is not None:
        if type(error).__name__ in ("RemoteProtocolError", "ReadError", "ReadTimeout", "ChunkedEncodingError",
                                    "ConnectionResetError", "IncompleteRead"):
            return True
        error = error.__cause__ or error.__context__
    return False


@cache
def _probe(location: Location, files: Files, minute: int) -> Status:
    """Whether the server has the weights.

    ``minute`` is part of the cache's key: a sweep checks every run, and each request may take seconds.
    """
    try:
        _request_first(location, files)
    except _UnreachableError:
        return "unreachable"
    return "downloadable"


class _UnreachableError(Exception):
    """The connection failed, or the library is offline."""


def _request_first(location: Location, files: Files) -> tuple[str, requests.Response]:
    """The name of the first of the files that the server has, and its response to a HEAD request.

    Raises:
        WeightsError: the server refuses, or is busy for too long.
        _UnreachableError: there is no connection to the server.
    """
    from inversion.retry import TransientError, retrying

    refusal = None
    for name, url in files:
        try:
            answer = retrying(partial(_head, url, _headers(location)))
        except TransientError as error:
            raise WeightsError(f"{url} {error}: try again later, put the file into the cache by hand"
                               f"{location.or_file}") from error
        if answer.status_code < 400:
            return name, answer
        refusal = WeightsError(f"{url} answered with HTTP status {_status(answer.status_code)} where "
                               f"{'ImageNet weights' if location.option else name} should be: "
                               f"{_remedy(answer, location)}")
        if answer.status_code != 404:
            break
    raise refusal or _UnreachableError


def _files_to_request(location: Location) -> Files:
    """Name and address of each file; empty if Hugging Face's library is set to offline."""
    if not location.repo:
        return ((_file_name(location), location.url),)
    import huggingface_hub
    from huggingface_hub import constants

    names = () if constants.HF_HUB_OFFLINE else location.files
    return tuple((name, huggingface_hub.hf_hub_url(location.repository, name, revision=location.revision))
                 for name in names)


def _headers(location: Location) -> dict[str, str]:
    """The headers of a request; for Hugging Face with the user's token, since some repositories are gated."""
    if not location.repo:
        return {}
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    return {name: str(value) for name, value in build_hf_headers().items()}


def _head(url: str, headers: dict[str, str]) -> requests.Response:
    import requests
    from urllib3.exceptions import ProtocolError

    from inversion.retry import TransientError, is_transient

    try:
        answer = requests.head(url, headers=headers, timeout=PROBE_SECONDS, allow_redirects=True)
    except requests.exceptions.SSLError as error:
        raise WeightsError(f"{url}: no trusted connection to the server ({error})") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        if error.args and isinstance(error.args[0], ProtocolError):
            raise TransientError("ended the connection without an answer") from error
        raise _UnreachableError from error
    except requests.exceptions.RequestException as error:
        raise WeightsError(f"{url}: the request for the weights failed ({error})") from error
    if is_transient(answer.status_code):
        raise TransientError(f"answered with HTTP status {_status(answer.status_code)}",
                             answer.headers.get("Retry-After"))
    return answer


def _status(code: int) -> str:
    """``429 (Too Many Requests)``."""
    try:
        return f"{code} ({http.HTTPStatus(code).phrase})"
    except ValueError:
        return str(code)


def _remedy(answer: requests.Response, location: Location) -> str:
    """The meaning of a final HTTP status, and what the user can do."""
    by_hand = f"put the file into the cache by hand{location.or_file}"
    said = answer.headers.get("X-Error-Message", "")
    if answer.status_code in (401, 403) and location.repo:
        return (f"{said or 'the repository is private or gated, or does not exist'}. Accept its terms at "
                f"https://huggingface.co/{location.repository} and log in (hf auth login, or HF_TOKEN); or {by_hand}")
    if answer.status_code in (401, 403, 407):
        return f"the server, or a proxy before it, does not let you in: {by_hand}"
    if answer.status_code in (404, 410):
        return f"it is not there (any more): {by_hand}"
    return said + "; " * bool(said) + by_hand
