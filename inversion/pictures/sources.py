"""The pictures that a user names: files, folders, patterns."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from inversion.data.decode import decode_whole
from inversion.data.files import shown
from inversion.data.folder import EXTENSIONS
from inversion.data.parallel import in_order
from inversion.data.progress import Progress, quiet
from inversion.errors import DataError

T = TypeVar("T")

SMALLEST = 32
"""Shorter side of the smallest picture that is taken, in pixels: the smallest image size, and what LPIPS needs."""
NAMED_AT_MOST = 10
NAME_LENGTH = 100
"""Characters of a picture's or run's name in a file name, of which systems take 255."""


class Source(NamedTuple):
    """A picture to reconstruct: where it lies, and a name for its files that no other one of the request has."""

    name: str
    path: Path


def find_pictures(texts: Sequence[str]) -> list[Source]:
    """The pictures of files, folders (what lies in them, not in folders below) and patterns, each file once.

    Raises:
        DataError: nothing is there, or nothing that is a picture by its extension.
    """
    paths = list(dict.fromkeys(path for text in texts for path in _expanded(text)))
    names = unique([safe_file_name(path.stem) for path in paths], lambda name, number: f"{name}-{number}")
    return [Source(name, path) for name, path in zip(names, paths, strict=True)]


def read_picture(source: Source) -> NDArray[np.uint8]:
    """A picture, upright, at its own size: ``uint8 (H, W, 3)``.

    Raises:
        DataError: it cannot be used; the message names the file and the reason.
    """
    return decode_whole(source.path, SMALLEST)


def require_readable(sources: Sequence[Source], progress: Progress = quiet) -> None:
    """Decodes every picture once, before anything is computed.

    Raises:
        DataError: some cannot be used; the message names the first ten.
    """
    problems = []
    for done, problem in enumerate(in_order(_problem, sources), start=1):
        problems += [problem] if problem else []
        progress("looking at pictures", done, len(sources))
    if problems:
        more = f"; and {len(problems) - NAMED_AT_MOST} more" if len(problems) > NAMED_AT_MOST else ""
        raise DataError(f"{len(problems)} of {len(sources)} pictures cannot be used: "
                        f"{'; '.join(problems[:NAMED_AT_MOST])}{more}")


def safe_file_name(text: str) -> str:
    """Text as a part of a file name that every system and shell takes: ``vgg16:block1+wavelet`` with a dash."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.")[:NAME_LENGTH] or "picture"


def unique(texts: Sequence[T], numbered: Callable[[T, int], T]) -> list[T]:
    """The texts, those that came before (or collide with a numbered one) with a number from 2 on."""
    given: list[T] = []
    for text in texts:
        candidate, number = text, 1
        while candidate in given:
            number += 1
            candidate = numbered(text, number)
        given.append(candidate)
    return given


def _problem(source: Source) -> str:
    try:
        read_picture(source)
    except DataError as error:
        return str(error)
    return ""


def _expanded(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if os.path.isdir(path):
        found = sorted(file for file in path.iterdir() if _is_picture(file))
        if not found:
            raise DataError(f"{shown(path)}: no pictures in this folder ({' '.join(sorted(EXTENSIONS))}); folders in "
                            "it are not looked into")
        return found
    if os.path.exists(path) or not glob.has_magic(text):
        return [path]  # a file that is not there is told of with the unreadable ones
    found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_picture(file))
    if not found:
        raise DataError(f"{text!r}: no picture's name is of this pattern ({' '.join(sorted(EXTENSIONS))})")
    return found


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and os.path.isfile(path)
