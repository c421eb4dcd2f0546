"""Recursive listing of a folder: photographs, subfolders, and files that are not used."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inversion.data import formats
from inversion.data.content import Packed
from inversion.data.splits import Photo
from inversion.errors import DataError
from inversion.files import shown
from inversion.text import first_of


@dataclass
class Scan:
    """The files below ``root``, or packed into files there, sorted by name.

    Attributes:
        root: the folder.
        photos: files with the extension of a photograph; their content is not checked.
        ignored: names of files with other extensions.
        irregular: names of FIFOs, devices and sockets with the extension of a photograph, and of links to them.
        folders: every folder, as path parts relative to the root; includes links to folders that were already scanned.
    """

    root: Path
    photos: list[Photo] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    irregular: list[str] = field(default_factory=list)
    folders: list[tuple[str, ...]] = field(default_factory=list)

    def parts(self, photo: Photo) -> tuple[str, ...]:
        """The folders between the root and a photograph."""
        place = photo.path
        return place.folder if isinstance(place, Packed) else place.relative_to(self.root).parts[:-1]

    def left_out(self, used: int) -> list[str]:
        """One line for each kind of file that is not used; ``used`` is the number of photographs that are."""
        lines = []
        if self.ignored:
            count = len(self.ignored)
            than = f", more than the {used} photographs that are used" if count > used > 0 else ""
            lines.append(f"{'1 file is' if count == 1 else f'{count} files are'} left out{than}: "
                         f"{formats.kinds_of(self.ignored)}")
        if self.irregular:
            lines.append(f"{len(self.irregular)} left out, not regular files: {first_of(self.irregular)}")
        return lines


def scan(root: Path) -> Scan:
    """Lists a folder recursively. Hidden files and folders are skipped, and each folder is scanned only once.

    Raises:
        DataError: a folder cannot be read.
    """
    found = Scan(root)
    files = sorted(_walk(found, root, set()), key=lambda path: path.relative_to(root).as_posix())
    names: set[str] = set()
    for path in files:
        name = unique_name(path.relative_to(root).as_posix(), names)
        if path.suffix.lower() not in formats.extensions():
            found.ignored.append(name)
        elif _is_something_else(path):
            found.irregular.append(name)
        else:
            found.photos.append(Photo(name, path))
    return found


def _walk(found: Scan, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Files below a folder; links come last, so that photographs are named after their real folder."""
    try:
        real = folder.resolve()
        if real in seen:
            return
        seen.add(real)
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        entries.sort(key=os.path.islink)
    except (OSError, RuntimeError) as error:  # RuntimeError: a symlink loop
        raise DataError(f"{shown(folder)}: {getattr(error, 'strerror', '') or error}") from error
    for path in entries:
        if os.path.isdir(path):  # unlike Path.is_dir, False also without permission
            found.folders.append(path.relative_to(found.root).parts)
            yield from _walk(found, path, seen)
        else:
            yield path


def _is_something_else(path: Path) -> bool:
    """Whether it exists but is no regular file; what is missing or not accessible is reported when it is read."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def unique_name(path: str, names: set[str]) -> str:
    """A path as text, which is added to ``names``. If it is there, bytes that are not UTF-8 are shown as escapes."""
    name = shown(path)
    if name in names:
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
    names.add(name)
    return name
