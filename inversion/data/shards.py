"""WebDataset shards: photographs that are packed into uncompressed tar files.

``shards/{000..099}.tar`` names many at once, with the braces of a shell; so do its wildcards. Photographs are read
where they lie, each as a range of its shard's bytes, so that a shard is neither unpacked nor held in memory.

A sample is all members of one name up to the first dot (``0001.jpg``, ``0001.cls``), as in the webdataset package; of
its images, the first one is used. The splits are those of folders: a shard's name without its numbers counts as a
folder (``train-000.tar``, ``train/000.tar``), and so do the folders in it.
"""

from __future__ import annotations

import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from inversion.data import braces, folder, formats
from inversion.data.content import Packed
from inversion.data.scan import Scan, unique_name
from inversion.data.splits import Photo, PhotoSet
from inversion.errors import DataError
from inversion.files import open_regular, require_regular, require_text, resolved, shown
from inversion.parallel import in_order
from inversion.progress import Progress, no_progress
from inversion.text import first_of

EXTENSION = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

_NUMBERS = re.compile(r"[-_.]*\d+[-_.]*")

PhotoFolder = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member(Packed):
    """A regular file in an uncompressed shard."""

    shard: Path
    member: str
    offset: int
    size: int
    inside: PhotoFolder

    @property
    def name(self) -> str:
        return self.member

    @property
    def folder(self) -> PhotoFolder:
        return self.inside

    @property
    def key(self) -> str:
        return f"{self.shard}@{self.offset}"

    @property
    def shown(self) -> str:
        return f"{shown(self.shard)}: {shown(self.member)}"

    def stamp(self) -> tuple[int, int]:
        return self.size, require_regular(self.shard).st_mtime_ns

    def read(self) -> bytes:
        with open_regular(self.shard) as file:
            file.seek(self.offset)
            return file.read(self.size)


def are_meant(data: str) -> bool:
    """Whether a value of the parameter ``data`` names shards; a folder may be called so too."""
    return data.lower().endswith((EXTENSION, *COMPRESSED)) and not os.path.isdir(os.path.expanduser(data))


def find(data: str) -> list[Path]:
    """The shards that a pattern names, in its order, as absolute paths. They are not opened.

    Raises:
        RequestError: the braces are wrong.
        DataError: shards are missing, are no regular files, or are compressed.
    """
    if data.lower().endswith(COMPRESSED):
        raise DataError(f"data: {data!r}: photographs in compressed shards cannot be read one by one: decompress them "
                        f"to {EXTENSION} (JPEG and PNG hardly get smaller by compression).")
    given = os.path.expanduser(data)
    named = [given] if os.path.exists(given) else braces.paths(given)
    paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in named))
    missing = [shown(path) for path in paths if not os.path.exists(path)]
    if missing or not paths:
        raise DataError(f"data: {len(missing)} of the {len(paths)} shards {data!r} are missing: {first_of(missing)}."
                        if paths else f"data: no shard matches {data!r}.")
    for path in paths:
        require_text(path, "data")
        try:
            require_regular(path)
        except OSError as error:
            raise DataError(f"data: {shown(path)}: {error.strerror or error}") from error
    return paths


def photo_set(data: str, index_folder: Path, progress: Progress = no_progress) -> PhotoSet:
    """The photographs in shards, in splits by the rules of ``folder.photo_set``.

    Args:
        data: the shards, as ``find`` takes them.
        index_folder: the folder of the hash index.
        progress: called with the number of shards listed, and of photographs read.

    Raises:
        RequestError: the braces are wrong.
        DataError: shards are missing, compressed or damaged, or do not make three splits.
    """
    paths = find(data)
    root = resolved(os.path.commonpath([path.parent for path in paths]))
    name = paths[0].stem if len(paths) == 1 else root.name
    found, remarks = _scan(root, paths, progress)
    photos = folder.in_splits(found, shown(name), os.path.abspath(os.path.expanduser(data)), index_folder, progress)
    photos.remarks.extend(remarks)
    return photos


def _scan(root: Path, paths: list[Path], progress: Progress) -> tuple[Scan, list[str]]:
    """The photographs of all shards, and a remark on images that are not used."""
    found, further, names = Scan(root), list[str](), set[str]()
    folders: dict[PhotoFolder, PhotoFolder] = {}  # one object for all photographs of a folder
    common = os.path.commonpath([path.parent for path in paths])
    for done, (path, members) in enumerate(zip(paths, in_order(_members, paths), strict=True), start=1):
        place = Path(os.path.relpath(path, common)).with_suffix("")
        above = (*place.parts[:-1], *([stem] if (stem := _NUMBERS.sub("", place.name)) else []))
        samples: set[str] = set()
        for info in members:
            member = PurePosixPath(info.name)
            inside = (*above, *(part for part in member.parts[:-1] if part not in (".", "/")))
            name = unique_name(f"{place.as_posix()}/{'/'.join((*inside[len(above):], member.name))}", names)
            sample = f"{member.parent}/{member.name.partition('.')[0]}"
            if member.suffix.lower() not in formats.extensions():
                found.ignored.append(name)
            elif not info.isreg() or info.issparse():
                found.irregular.append(name)
            elif sample in samples:
                further.append(name)
            else:
                samples.add(sample)
                inside = folders.setdefault(inside, inside)
                found.photos.append(Photo(name, Member(path, info.name, info.offset_data, info.size, inside)))
        progress("listing shards", done, len(paths))
    found.folders.extend(sorted({inside[:length] for inside in folders for length in range(1, len(inside) + 1)}))
    return found, [f"{len(further)} images are left out: their samples have another one before them "
                   f"({first_of(further)})"] if further else []


def _members(path: Path) -> list[tarfile.TarInfo]:
    """The members of a shard but folders and hidden files.

    Raises:
        DataError: it is no uncompressed tar file, or is cut off.
    """
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode="r:") as shard:
            members = [info for info in shard if not info.isdir() and not _is_hidden(info.name)]
            file.seek(shard.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # tarfile takes any damage for the end
                raise tarfile.ReadError(f"cut off or damaged at byte {shard.offset:,}")
            return members
    except tarfile.TarError as error:
        raise DataError(f"{shown(path)}: not an uncompressed tar file, or a damaged one ({error}).") from error
    except OSError as error:
        raise DataError(f"{shown(path)}: {error.strerror or error}") from error


def _is_hidden(member: str) -> bool:
    return any(part.startswith(".") for part in PurePosixPath(member).parts)
