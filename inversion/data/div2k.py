"""DIV2K: 800 photographs of 2K resolution for training and validation, 100 for test.

Agustsson and Timofte, NTIRE 2017 Challenge on Single Image Super-Resolution: Dataset and Study, CVPRW 2017. Sizes and
checksums of the official archives are those of TensorFlow Datasets:
https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/datasets/div2k/checksums.tsv
"""

from __future__ import annotations

import os
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from zipfile import ZipFile, ZipInfo

from inversion.data.splits import Photo, PhotoSet, hold_out
from inversion.errors import DataError
from inversion.files import is_there
from inversion.progress import Progress, no_progress

FOLDER = "DIV2K"

COMMAND = "inversion data div2k"


@dataclass(frozen=True)
class Archive:
    """A zip archive with one folder of ``photos`` photographs, numbered from ``first``."""

    folder: str
    url: str
    size: int
    sha256: str
    first: int
    photos: int

    def names(self) -> list[str]:
        """``0001.png`` and so on."""
        return [f"{number:04d}.png" for number in range(self.first, self.first + self.photos)]


Archives = tuple[Archive, Archive]

ARCHIVES: Archives = (
    Archive("DIV2K_train_HR", "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_train_HR.zip", 3530603713,
            "9d0b9c463f6e35b6c62cc6a930ee2224f670b34c1df841a57670f9acf0f6c335", first=1, photos=800),
    Archive("DIV2K_valid_HR", "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip", 448993893,
            "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc", first=801, photos=100),
)


def is_present(data_dir: Path, archives: Archives = ARCHIVES) -> bool:
    """Whether every photograph is on disk; their content is checked by decoding."""
    return all(_found(data_dir, archive) == archive.photos for archive in archives)


def fetch(data_dir: Path, progress: Progress = no_progress, archives: Archives = ARCHIVES) -> None:
    """Downloads and unpacks the archives that are not on disk yet; resumes after an interruption.

    Raises:
        DataError: a download failed, an archive has unexpected content, or a folder has only some of its photographs.
    """
    from inversion.files import alone_in

    try:
        with alone_in(data_dir / FOLDER):
            for archive in archives:
                _refuse_incomplete(data_dir, archive)  # before gigabytes are downloaded
            for archive in archives:
                if not _found(data_dir, archive):
                    _fetch_one(data_dir, archive, progress)
    except OSError as error:
        raise DataError(f"{data_dir / FOLDER} cannot be written ({error.strerror or error}): choose another folder "
                        "with data_dir=FOLDER.") from error


def photo_set(data_dir: Path, archives: Archives = ARCHIVES) -> PhotoSet:
    """The first archive, split 4 : 1 into train and val with a fixed seed; the second one is test.

    ``in_protocol`` gives train and val of ``protocol=published``.

    Raises:
        DataError: the photographs are not on disk; the message names the folder and the command that downloads them.
    """
    for archive in archives:
        found = _found(data_dir, archive)
        if found != archive.photos:
            raise DataError(f"DIV2K is not in {data_dir / FOLDER} ({archive.folder} has {found} of {archive.photos} "
                            f"photographs). Get it with: {COMMAND}")
    photos, test = ([Photo(f"{archive.folder}/{name}", data_dir / FOLDER / archive.folder / name)
                     for name in archive.names()] for archive in archives)
    train, val = hold_out(photos)
    return PhotoSet("div2k", data_dir / FOLDER, "div2k", {"train": train, "val": val, "test": test})


def in_protocol(photos: PhotoSet, protocol: str) -> PhotoSet:
    """The photographs in the splits of a protocol; ``published`` has its own train and val splits of DIV2K.

    The released code of the published study takes the first 640 of ``numpy.random.permutation(800)`` after
    ``numpy.random.seed(42)``, over the photographs in the order of their names. Other datasets are returned unchanged.
    """
    if protocol != "published":
        return photos
    import numpy as np  # late: a spec is read without it

    found = sorted([*photos.splits["train"], *photos.splits["val"]])
    if any(PurePosixPath(photo.name).parent.name != ARCHIVES[0].folder for photo in found):
        return photos
    order = np.random.RandomState(42).permutation(len(found))  # the generator of the released code
    cut = len(found) * 4 // 5
    train, val = ([found[index] for index in part] for part in (order[:cut], order[cut:]))
    return replace(photos, splits=photos.splits | {"train": train, "val": val})


def unpack(archive: Path, folder: Path, progress: Progress = no_progress) -> None:
    """Extracts an archive into ``folder``, which is created only when it is complete.

    A top-level folder of the same name in the archive becomes ``folder`` itself.

    Raises:
        DataError: the folder exists, a member would be written outside of it (then nothing is extracted), the archive
            is damaged, or the disk is full.
    """
    from inversion.download import require_space

    if is_there(folder):
        raise DataError(f"{folder} exists already: remove it before {archive.name} is unpacked there.")
    temporary = folder.with_name(f".{folder.name}.unpacking")
    if temporary.is_symlink():  # rmtree does not remove links, and files would be written to its target
        temporary.unlink()
    shutil.rmtree(temporary, ignore_errors=True)  # left by a killed process
    try:
        with ZipFile(archive) as file:
            members = file.infolist()
            for member in members:
                _refuse_outside(archive, member)
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


def _fetch_one(data_dir: Path, archive: Archive, progress: Progress) -> None:
    from inversion.download import download

    folder = data_dir / FOLDER / archive.folder
    zipped = folder.with_name(f"{folder.name}.zip")
    download(archive.url, zipped, archive.size, archive.sha256, progress)
    unpack(zipped, folder, progress)
    _refuse_incomplete(data_dir, archive)
    zipped.unlink()


def _found(data_dir: Path, archive: Archive) -> int:
    folder = data_dir / FOLDER / archive.folder
    if not is_there(folder) or not folder.is_dir():
        return 0
    try:
        names = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    return len(names & set(archive.names()))


def _refuse_incomplete(data_dir: Path, archive: Archive) -> None:
    """Raises a DataError for a folder with only some of the photographs: it may be the user's own."""
    folder = data_dir / FOLDER / archive.folder
    found = _found(data_dir, archive)
    if is_there(folder) and found != archive.photos:
        raise DataError(f"{folder} holds {found} of {archive.photos} photographs: remove or complete it, then run "
                        f"{COMMAND} again.")


def _refuse_outside(archive: Path, member: ZipInfo) -> None:
    """Refuses members with a path outside the folder, which ``zipfile`` would silently move inside."""
    name = member.filename
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    path = PurePosixPath(name)
    if is_link or "\\" in name or ":" in name or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{archive}: refused, its member {name!r} would land outside the folder")
