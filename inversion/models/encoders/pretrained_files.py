"""Pretrained weights as files: in torchvision's or Hugging Face's cache, on their servers, and the download between.

Nothing here imports PyTorch.
"""

from __future__ import annotations

import http
import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from inversion.errors import WeightsError

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
    """Where ImageNet weights lie: a file at ``url``, or one of ``files`` in the Hugging Face repository ``repo``."""

    url: str = ""
    repo: str = ""
    files: tuple[str, ...] = HUB_FILES
    option: str = "weights"
    """The parameter by which a file can be given instead."""

    @property
    def repository(self) -> str:
        """``repo`` without its revision."""
        return self.repo.partition("@")[0]

    @property
    def revision(self) -> str | None:
        """What ``repo`` says behind ``@``."""
        return self.repo.partition("@")[2] or None


def location_status(location: Location) -> Status:
    """The same for any location of weights."""
    if cached_file(location):
        return "cached"
    return _probe(location, _files_to_ask_for(location), int(time.monotonic() / REMEMBERED_SECONDS))


def torch_checkpoints() -> Path:
    """The folder in which torchvision keeps what it downloads, by the rules of ``torch.hub.get_dir``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(os.path.expanduser(home)) / "hub" / "checkpoints"


def cached_file(location: Location) -> Path | None:
    """The weights in torchvision's or Hugging Face's cache, if they are there.

    Of Hugging Face's the present revision goes first; without it any other that was fetched, the newest first.
    """
    if not location.repo:
        file = torch_checkpoints() / _file_name(location)
        return file if file.is_file() else None
    import huggingface_hub

    for name in location.files:
        cached = huggingface_hub.try_to_load_from_cache(location.repository, name, revision=location.revision)
        if isinstance(cached, str):  # a file known to be absent from the repository is an object that is no path
            return Path(cached)
    return None if location.revision else _of_another_revision(location)


def fetch(location: Location) -> Path:
    """The weights in the cache of their library, downloaded if they are not there; a download that was cut goes on.

    Raises:
        WeightsError: the server is out of reach, busy for too long, or refuses.
    """
    try:
        return cached_file(location) or (_from_hub(location) if location.repo else _from_url(location))
    except _UnreachableError as error:
        raise WeightsError(f"{location.repo or location.url} is not cached, and its server is out of reach: connect, "
                           f"or give {location.option}=FILE") from error


def damaged_download(name: str, path: Path, why: str) -> WeightsError:
    """The error for a file in a cache that cannot be used; of a link, the file itself has to go."""
    return WeightsError(f"{name} cannot be loaded from {path.parent}: {why.removesuffix('.')}. If the download was cut "
                        f"short, delete {path.resolve()}, and it is fetched again")


def _file_name(location: Location) -> str:
    return PurePosixPath(urlsplit(location.url).path).name


def _of_another_revision(location: Location) -> Path | None:
    """A file that ``snapshot_download`` or another revision left; the library itself looks for ``main`` only."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=location.repository, repo_type="model"), "snapshots")
    for name in location.files:
        if found := [file for file in folder.glob(f"*/{name}") if file.is_file()]:
            newest = max(found, key=lambda file: file.stat().st_mtime)
            _logger.info("%s: the cache has revision %s, and not main: it is taken", location.repo, newest.parent.name)
            return newest
    return None


def _from_url(location: Location) -> Path:
    """The file, downloaded to where torchvision looks for it; its name holds the beginning of its SHA-256."""
    import filelock

    from inversion.download import download

    target = torch_checkpoints() / _file_name(location)
    size = int(_ask(location, _files_to_ask_for(location))[1].headers.get("Content-Length", 0))
    if not size:
        raise WeightsError(f"{location.url}: the server does not tell the size of the file: save it as {target}")
    beginning = re.search(r"-([0-9a-f]{8,})\.", target.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # other processes may want the same file
        with filelock.FileLock(f"{target}.lock"), _progress_bar(target.name, size) as bar:
            download(location.url, target, size, beginning[1] if beginning else "",
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
    """The file, downloaded by Hugging Face's library, which goes on where it was cut."""
    from inversion.retry import TransientError, retrying

    name = _ask(location, _files_to_ask_for(location))[0]
    try:
        return retrying(partial(_download_from_hub, location, name))
    except TransientError as error:
        raise WeightsError(f"{location.repo}: {name} cannot be downloaded from Hugging Face ({error}): try again "
                           f"later, or give {location.option}=FILE") from error


def _download_from_hub(location: Location, name: str) -> Path:
    import huggingface_hub

    from inversion.retry import TransientError, is_transient

    try:
        return Path(huggingface_hub.hf_hub_download(location.repository, name, revision=location.revision))
    except Exception as error:  # of its HTTP library, of its own and of the operating system
        response, text = _response_of(error), " ".join(str(error).split())[:300]
        if response is not None and is_transient(response.status_code):
            raise TransientError(f"HTTP status {_status(response.status_code)}",
                               response.headers.get("Retry-After")) from error
        if "Consistency check failed" in text or _was_interrupted(error):  # fewer bytes than announced, or none
            raise TransientError("the connection ended early") from error
        raise WeightsError(f"{location.repo}: {name} cannot be downloaded from Hugging Face: {text}") from error


def _response_of(error: BaseException | None) -> Any:
    """The server's answer that an error, or the one it came from, holds."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return response
        error = error.__cause__ or error.__context__
    return None


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an existing connection broke or fell silent.

    By the class's name: Hugging Face's library has used requests, httpx and httpx2, which name these errors alike.
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

    An answer is good for the ``minute``: a sweep asks for every one of its runs, and each may take seconds.
    """
    try:
        _ask(location, files)
    except _UnreachableError:
        return "unreachable"
    return "downloadable"


class _UnreachableError(Exception):
    """No connection came about, or none was to be tried."""


def _ask(location: Location, files: Files) -> tuple[str, requests.Response]:
    """The name of the first of the files that the server has, and its answer to a HEAD request.

    Raises:
        WeightsError: the server refuses, or is busy for too long.
        _UnreachableError: there is no server.
    """
    from inversion.retry import TransientError, retrying

    refusal = None
    for name, url in files:
        try:
            answer = retrying(partial(_head, url, _headers(location)))
        except TransientError as error:
            raise WeightsError(f"{url} {error}: try again later, put the file into the cache by hand, or give "
                               f"{location.option}=FILE") from error
        if answer.status_code < 400:
            return name, answer
        refusal = WeightsError(f"{url} answered with HTTP status {_status(answer.status_code)} where ImageNet weights "
                               f"should be: {_remedy(answer, location)}")
        if answer.status_code != 404:
            break
    raise refusal or _UnreachableError


def _files_to_ask_for(location: Location) -> Files:
    """Each file's name and address; none when Hugging Face's library is told to stay offline."""
    if not location.repo:
        return ((_file_name(location), location.url),)
    import huggingface_hub
    from huggingface_hub import constants

    names = () if constants.HF_HUB_OFFLINE else location.files
    return tuple((name, huggingface_hub.hf_hub_url(location.repository, name, revision=location.revision))
                 for name in names)


def _headers(location: Location) -> dict[str, str]:
    """With the user's token, for Hugging Face: some repositories are gated."""
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
        raise WeightsError(f"{url} cannot be asked for the weights: {error}") from error
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
    """What a final refusal means, and what can be done."""
    by_hand = f"put the file into the cache by hand, or give {location.option}=FILE"
    said = answer.headers.get("X-Error-Message", "")
    if answer.status_code in (401, 403) and location.repo:
        return (f"{said or 'the repository is private or gated, or does not exist'}. Accept its terms at "
                f"https://huggingface.co/{location.repository} and log in (hf auth login, or HF_TOKEN); or {by_hand}")
    if answer.status_code in (401, 403, 407):
        return f"the server, or a proxy before it, does not let you in: {by_hand}"
    if answer.status_code in (404, 410):
        return f"it is not there (any more): {by_hand}"
    return said + "; " * bool(said) + by_hand
