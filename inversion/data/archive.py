"""Zip archives to folders: whole or not at all."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from inversion.download import require_space
from inversion.errors import DataError
from inversion.progress import Progress, no_progress


def unpack(archive: Path, folder: Path, progress: Progress = no_progress) -> None:
    """Extracts an archive into a folder, which appears only when it is complete.

    What the archive holds below a top folder called like ``folder`` lands in ``folder`` itself.

    Raises:
        DataError: the folder exists, a member would land outside it (nothing is extracted then), the archive is
            damaged, or the disk is full.
    """
    if folder.exists():
        raise DataError(f"{folder} exists already: remove it before {archive.name} is unpacked there.")
    temporary = folder.with_name(f".{folder.name}.unpacking")
    if temporary.is_symlink():  # rmtree leaves it, and everything would be written where it leads
        temporary.unlink()
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed process left
    try:
        with zipfile.ZipFile(archive) as file:
            members = file.infolist()
            for member in members:
                _check(archive, member)
            require_space(folder.parent, sum(member.file_size for member in members))
            for done, member in enumerate(members, start=1):
                file.extract(member, temporary)
                progress(f"unpacking {archive.name}", done, len(members))
        inner = temporary / folder.name
        (inner if inner.is_dir() else temporary).rename(folder)
    except DataError:
        raise
    except Exception as error:  # zipfile raises BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError…
        raise DataError(f"{archive} cannot be unpacked into {folder} ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(archive: Path, member: zipfile.ZipInfo) -> None:
    """Refuses members that could write elsewhere. ``zipfile`` would move them inside in silence."""
    name = member.filename
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    path = PurePosixPath(name)
    if is_link or "\\" in name or ":" in name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive}: refused, its member {name!r} would land outside the folder")
