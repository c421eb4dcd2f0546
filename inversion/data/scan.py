"""What lies below a folder: photographs, the folders they lie in, and what is left out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inversion.data import formats
from inversion.data.splits import Photo, listed
from inversion.errors import DataError
from inversion.files import shown


@dataclass
class Scan:
    """The files below ``root`` by name, in the order of their names.

    Attributes:
        root: the folder.
        photos: photographs by their extension; what they hold is not looked at.
        ignored: files of other kinds.
        irregular: FIFOs, devices and sockets that are called like photographs, and links to such.
        folders: every folder, as parts of its path below the root; links to folders that were there before too.
    """

    root: Path
    photos: list[Photo] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    irregular: list[str] = field(default_factory=list)
    folders: list[tuple[str, ...]] = field(default_factory=list)

    def parts(self, photo: Photo) -> tuple[str, ...]:
        """The folders between the root and a photograph."""
        return photo.path.relative_to(self.root).parts[:-1]

    def left_out(self, used: int) -> list[str]:
        """A line on each sort of file that is left out, where ``used`` photographs are not."""
        lines = []
        if self.ignored:
            count = len(self.ignored)
            than = f", more than the {used} photographs that are used" if count > used > 0 else ""
            lines.append(f"{'1 file is' if count == 1 else f'{count} files are'} left out{than}: "
                         f"{formats.kinds_of(self.ignored)}")
        if self.irregular:
            lines.append(f"{len(self.irregular)} left out, being no regular files: {listed(self.irregular)}")
        return lines


def scan(root: Path) -> Scan:
    """Looks through a folder and those in it, hidden ones left out, links to folders followed once.

    Raises:
        DataError: a folder cannot be read.
    """
    found = Scan(root)
    files = sorted(_walk(found, root, set()), key=lambda path: path.relative_to(root).as_posix())
    names: set[str] = set()
    for path in files:
        name = _name(path.relative_to(root), names)
        if path.suffix.lower() not in formats.extensions():
            found.ignored.append(name)
        elif _is_something_else(path):
            found.irregular.append(name)
        else:
            found.photos.append(Photo(name, path))
    return found


def _walk(found: Scan, folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Files below a folder. A folder goes before the links to it, so that its photographs have their own names."""
    try:
        real = folder.resolve()
        if real in seen:
            return
        seen.add(real)
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        entries.sort(key=os.path.islink)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise DataError(f"{shown(folder)}: {getattr(error, 'strerror', '') or error}") from error
    for path in entries:
        if os.path.isdir(path):  # unlike Path.is_dir, false for anything that cannot be looked into
            found.folders.append(path.relative_to(found.root).parts)
            yield from _walk(found, path, seen)
        else:
            yield path


def _is_something_else(path: Path) -> bool:
    """Whether it is neither a file nor lost: what is not there, or cannot be looked at, is reported when it is read."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _name(path: Path, names: set[str]) -> str:
    """A path as text; of two that differ only in bytes that are no text, the second shows its bytes."""
    name = shown(path.as_posix())
    if name in names:
        name = os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
    names.add(name)
    return name
