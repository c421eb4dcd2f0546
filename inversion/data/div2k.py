"""DIV2K: 800 photographs of 2K resolution to train and validate, 100 to test.

Agustsson and Timofte, NTIRE 2017 Challenge on Single Image Super-Resolution: Dataset and Study, CVPRW 2017. Sizes and
checksums of the official archives are TensorFlow Datasets':
https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/datasets/div2k/checksums.tsv
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from inversion.data.splits import Photo, PhotoSet, hold_out
from inversion.errors import DataError
from inversion.progress import Progress, no_progress

FOLDER = "DIV2K"

COMMAND = "inversion data div2k"


@dataclass(frozen=True)
class Archive:
    """A zip archive of ``photos`` photographs, numbered from ``first``, that unpacks to one folder."""

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
    """Whether every photograph is on disk (their content is checked when they are decoded)."""
    return all(_found(data_dir, archive) == archive.photos for archive in archives)


def fetch(data_dir: Path, progress: Progress = no_progress, archives: Archives = ARCHIVES) -> None:
    """Downloads and unpacks what is not on disk yet; to be called again after an interruption, it goes on.

    Raises:
        DataError: a download failed, an archive does not hold what it should, or a folder holds some photographs only.
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
    """The first archive split 4 : 1 into train and val by a fixed seed, the second one as test.

    Raises:
        DataError: it is not on disk; the message names the folder and the command that fetches it.
    """
    for archive in archives:
        found = _found(data_dir, archive)
        if found != archive.photos:
            raise DataError(f"DIV2K is not in {data_dir / FOLDER} ({archive.folder} has {found} of {archive.photos} "
                            f"photographs). Get it with: {COMMAND}")
    photos, test = ([Photo(f"{archive.folder}/{name}", data_dir / FOLDER / archive.folder / name)
                     for name in archive.names()] for archive in archives)
    train, val = hold_out(photos)
    return PhotoSet("div2k", data_dir / FOLDER, {"train": train, "val": val, "test": test})


def _fetch_one(data_dir: Path, archive: Archive, progress: Progress) -> None:
    from inversion.data.archive import unpack
    from inversion.download import download

    folder = data_dir / FOLDER / archive.folder
    zipped = folder.with_name(f"{folder.name}.zip")
    download(archive.url, zipped, archive.size, archive.sha256, progress)
    unpack(zipped, folder, progress)
    _refuse_incomplete(data_dir, archive)
    zipped.unlink()


def _found(data_dir: Path, archive: Archive) -> int:
    folder = data_dir / FOLDER / archive.folder
    if not folder.is_dir():
        return 0
    return len({entry.name for entry in os.scandir(folder) if entry.is_file()} & set(archive.names()))


def _refuse_incomplete(data_dir: Path, archive: Archive) -> None:
    """A folder with some of the photographs is not ours to delete, and not one to train on."""
    folder = data_dir / FOLDER / archive.folder
    found = _found(data_dir, archive)
    if folder.exists() and found != archive.photos:
        raise DataError(f"{folder} holds {found} of {archive.photos} photographs: remove or complete it, then run "
                        f"{COMMAND} again.")
