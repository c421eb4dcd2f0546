"""timm models on Hugging Face's hub, in timm's notation ``hf-hub:USER/REPO@REVISION``: their names and ``config.json``.

A repository in timm's format has a ``config.json`` with the architecture, its arguments and the normalisation. Branches
move, so a full name has the commit. This module imports neither PyTorch nor timm.
"""

from __future__ import annotations

import functools
import re
import tempfile
from pathlib import Path

from inversion.errors import RequestError, WeightsError
from inversion.models.encoders.pretrained_files import Location, cached_file, fetch

HUB_PREFIX = "hf-hub:"
CONFIG = "config.json"

_NAME = re.compile(rf"{HUB_PREFIX}(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?")
_COMMIT = re.compile("[0-9a-f]{40}")

_packed: dict[str, str] = {}
"""Folders with the ``config.json`` of packed models, by full name."""

_packed_folders: list[tempfile.TemporaryDirectory[str]] = []
"""Those folders, which are deleted when the process ends."""


def is_on_hub(name: str) -> bool:
    """Whether a model is in timm's notation for the hub. timm's own repositories are not: they are ``timm/NAME``."""
    return name.startswith(HUB_PREFIX) and not name.startswith(f"{HUB_PREFIX}timm/")


def full_name(name: str) -> str:
    """The name with the commit of its revision, by default of ``main``, for which the server may be asked.

    Raises:
        RequestError: it is no name of a repository, or its ``config.json`` cannot be had.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise RequestError(f"encoder {name!r} is no name of a repository: write {HUB_PREFIX}USER/REPO, or "
                           f"{HUB_PREFIX}USER/REPO@REVISION with a commit, a tag or a branch without a slash")
    if _COMMIT.fullmatch(found["revision"] or ""):
        return name
    return f"{HUB_PREFIX}{found['repository']}@{_fetched(name).parent.name}"


def folder_of(name: str) -> Path:
    """A folder with the ``config.json`` of a model by its full name.

    Raises:
        RequestError: it cannot be had.
    """
    if name in _packed and cached_file(_location(name)) is None:
        return Path(_packed[name])
    return _fetched(name).parent


def repository_of(name: str) -> str:
    """``USER/REPO@REVISION``."""
    return name.removeprefix(HUB_PREFIX)


def short_commits(text: str) -> str:
    """A text with commits of eight digits, as in the names of runs."""
    return re.sub(rf"({HUB_PREFIX}[^@:]+@[0-9a-f]{{8}})[0-9a-f]{{32}}", r"\1", text)


def use_packed(name: str, config: bytes) -> None:
    """Makes the ``config.json`` of a packed model known to this process, so that the hub is not needed."""
    if name not in _packed:
        folder = tempfile.TemporaryDirectory(prefix="inversion-")
        _packed_folders.append(folder)
        (Path(folder.name) / CONFIG).write_bytes(config)
        _packed[name] = folder.name


@functools.cache
def _fetched(name: str) -> Path:
    """The ``config.json`` in Hugging Face's cache, in a folder that is called after the commit."""
    try:
        return fetch(_location(name))
    except WeightsError as error:
        raise RequestError(f"encoder {name}: {error}") from error


def _location(name: str) -> Location:
    return Location(repo=repository_of(name), files=(CONFIG,), option="")
