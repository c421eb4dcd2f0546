"""The pictures that a user names: files, folders, patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inversion.data import formats
from inversion.data.decode import decode_whole
from inversion.errors import DataError
from inversion.file_names import safe_file_name, unique
from inversion.files import shown, user_path
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress

SMALLEST = 32
"""Shorter side of the smallest picture that is taken, in pixels: the smallest image size, and what LPIPS needs."""
NAMED_AT_MOST = 10


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
    names = unique([safe_file_name(path.stem) for path in paths])
    return [Source(name, path) for name, path in zip(names, paths, strict=True)]


def read_picture(source: Source) -> NDArray[np.uint8]:
    """A picture, upright, at its own size: ``uint8 (H, W, 3)``.

    Raises:
        DataError: it cannot be used; the message names the file and the reason.
    """
    return decode_whole(source.path, SMALLEST)


def require_readable(sources: Sequence[Source], progress: Progress = no_progress) -> None:
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


def _problem(source: Source) -> str:
    try:
        read_picture(source)
    except DataError as error:
        return str(error)
    return ""


def _expanded(text: str) -> list[Path]:
    path = user_path(text, "PICTURE")
    if os.path.isdir(path):
        try:
            files = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        except OSError as error:
            raise DataError(f"{shown(path)}: {error.strerror or error}") from error
        found = [file for file in files if _is_picture(file)]
        if not found:
            others = formats.kinds_of(file.name for file in files if not os.path.isdir(file))
            raise DataError(f"{shown(path)}: no pictures in this folder{others and f', but {others}'} (known "
                            f"extensions: {formats.known_extensions()}); folders in it are not looked into")
        return found
    if os.path.exists(path) or not glob.has_magic(text):
        return [path]  # a file that is not there is told of with the unreadable ones
    found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_picture(file))
    if not found:
        raise DataError(f"{text!r}: no picture's name is of this pattern ({formats.known_extensions()})")
    return found


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in formats.extensions() and not path.name.startswith(".") and os.path.isfile(path)
