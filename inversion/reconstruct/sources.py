"""The pictures of a request: files, folders and patterns."""

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
from inversion.files import safe_file_name, shown, unique, user_path
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress

SMALLEST = 32
"""Minimum of a picture's shorter side in pixels: the smallest image size, and the minimum for LPIPS."""
NAMED_AT_MOST = 10


class Source(NamedTuple):
    """A picture to reconstruct; its name is unique in the request, and part of the names of its results."""

    name: str
    path: Path


def find_pictures(texts: Sequence[str]) -> list[Source]:
    """The pictures of files, folders (without their subfolders) and patterns, each file once.

    Raises:
        DataError: a folder or a pattern has no file with the extension of a picture.
    """
    paths = list(dict.fromkeys(path for text in texts for path in _expanded(text)))
    names = unique([safe_file_name(path.stem) for path in paths])
    return [Source(name, path) for name, path in zip(names, paths, strict=True)]


def read_picture(source: Source) -> NDArray[np.uint8]:
    """Reads a picture at its own size, rotated upright: ``uint8 (H, W, 3)``.

    Raises:
        DataError: it cannot be used; the message names the file and the reason.
    """
    return decode_whole(source.path, SMALLEST)


def require_readable(sources: Sequence[Source], progress: Progress = no_progress) -> None:
    """Decodes every picture once, to find unreadable ones before anything is computed.

    Raises:
        DataError: some cannot be used; the message names the first ten.
    """
    problems = []
    for done, problem in enumerate(in_order(_problem, sources), start=1):
        problems += [problem] if problem else []
        progress("checking pictures", done, len(sources))
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
                            f"extensions: {formats.known_extensions()}); its subfolders are not searched")
        return found
    if os.path.exists(path) or not glob.has_magic(text):
        return [path]  # a missing file is reported with the unreadable ones
    found = sorted(file for file in map(Path, glob.glob(str(path), recursive=True)) if _is_picture(file))
    if not found:
        raise DataError(f"{text!r}: no picture's name matches this pattern ({formats.known_extensions()})")
    return found


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in formats.extensions() and not path.name.startswith(".") and os.path.isfile(path)
