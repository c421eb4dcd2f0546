"""Hugging Face datasets: ``hf:NAME[@REVISION][:CONFIG]``, from the Hub or, as ``hf:PATH``, from a folder.

The package ``datasets`` downloads and converts a dataset once, into memory-mapped Arrow files in its own cache
(HF_HOME), which processes share and which is used offline. The encoded images are read from there one by one, as if
they were files; a row's name is its split and number. The splits are those of the dataset, by the rules of folders.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inversion.data import folder
from inversion.data.content import Packed
from inversion.data.scan import Scan
from inversion.data.splits import Photo, PhotoSet
from inversion.errors import DataError, RequestError
from inversion.files import open_regular, require_regular, shown, user_path
from inversion.progress import Progress, no_progress
from inversion.text import reason

PREFIX = "hf:"
FORM = "hf:NAME, hf:NAME@REVISION, hf:NAME:CONFIG or hf:FOLDER"

NAMED = ("image", "img")
"""Columns that are used where a dataset has several of images."""

_REQUEST = re.compile(r"(?P<name>[^@:\s]+)(@(?P<revision>[^@:\s]+))?(:(?P<config>[^@:\s]+))?")
_SAVED = ("dataset_dict.json", "state.json")
"""Files of a dataset that was saved by ``save_to_disk``."""


@dataclass(frozen=True)
class Request:
    """A parsed ``hf:NAME[@REVISION][:CONFIG]``; ``folder`` is the local one, else None."""

    name: str
    revision: str | None
    config: str | None
    folder: Path | None

    def __str__(self) -> str:
        name = str(self.folder) if self.folder else self.name
        revision, config = f"@{self.revision}" if self.revision else "", f":{self.config}" if self.config else ""
        return f"{PREFIX}{name}{revision}{config}"


@dataclass(frozen=True, eq=False)
class Table:
    """The images of one split, encoded; ``file`` identifies them, together with the time of its last change."""

    split: str
    rows: Any
    column: str
    file: str
    changed: int


@dataclass(frozen=True, slots=True)
class Row(Packed):
    """An image of a table; ``size`` is −1 if the table has only the path of its file."""

    table: Table
    number: int
    size: int
    suffix: str

    @property
    def name(self) -> str:
        return f"{self.table.split}/{self.number:07}{self.suffix}"

    @property
    def folder(self) -> tuple[str, ...]:
        return (self.table.split,)

    @property
    def key(self) -> str:
        return f"{self.table.file}@{self.table.split}:{self.number}"

    @property
    def shown(self) -> str:
        return f"row {self.number} of {shown(self.table.split)}"

    def stamp(self) -> tuple[int, int]:
        if self.size >= 0:
            return self.size, self.table.changed
        status = require_regular(self._value()["path"])
        return status.st_size, status.st_mtime_ns

    def read(self) -> bytes:
        value = self._value()
        if value["bytes"] is not None:
            content: bytes = value["bytes"]
            return content
        with open_regular(value["path"]) as file:
            return file.read()

    def _value(self) -> Mapping[str, Any]:
        value: Mapping[str, Any] = self.table.rows[self.number][self.table.column][0].as_py()
        return value


def is_meant(data: str) -> bool:
    """Whether a value of the parameter ``data`` names a Hugging Face dataset."""
    return data.startswith(PREFIX) and not data.startswith(f"{PREFIX}//")


def parse(data: str) -> Request:
    """The parts of a request. Nothing is imported, and nothing is looked up on the Hub.

    Raises:
        RequestError: it has another form.
        DataError: the folder is not there, or the package is not installed.
    """
    found = _REQUEST.fullmatch(data.removeprefix(PREFIX))
    if found is None:
        raise RequestError(f"data: {data!r} is not a Hugging Face dataset: expected {FORM}.")
    name, local = found["name"], None
    if name.startswith(("/", ".", "~")) or os.path.isdir(name):
        local = Path(os.path.abspath(user_path(name, "data")))
        if not local.is_dir():
            raise DataError(f"data: {data!r}: no folder {shown(local)}.")
        if found["revision"]:
            raise RequestError(f"data: {data!r}: a folder has no revisions.")
    if importlib.util.find_spec("datasets") is None:
        raise DataError(f"data: {data!r} needs the package datasets: pip install 'inversion[datasets]'.")
    return Request(name, found["revision"], found["config"], local)


def photo_set(data: str, index_folder: Path, progress: Progress = no_progress) -> PhotoSet:
    """The images of a dataset, in splits by the rules of ``folder.photo_set``; downloads it if it is not cached.

    Args:
        data: the dataset, as ``parse`` takes it.
        index_folder: the folder of the hash index.
        progress: called with the number of images read; the download has bars of its own.

    Raises:
        RequestError: ``data`` has another form.
        DataError: it cannot be had, has no column of images, or does not make three splits.
    """
    request = parse(data)
    found, empty = Scan(Path()), 0
    for split, dataset in _load(data, request).items():
        table = _table(data, split, dataset)
        found.root = request.folder or Path(table.file).parent
        found.folders.append((split,))
        rows = _rows(table)
        empty += len(table.rows) - len(rows)
        found.photos.extend(Photo(row.name, row) for row in rows)
    name = shown(request.folder.name if request.folder else request.name)
    photos = folder.in_splits(found, name, str(request), index_folder, progress)
    if empty:
        photos.remarks.append(f"{empty} rows have no image and are left out")
    return photos


def _load(data: str, request: Request) -> dict[str, Any]:
    """The splits of a dataset by name.

    Raises:
        DataError: it cannot be had; the message is that of the package.
    """
    datasets = importlib.import_module("datasets")
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        if request.folder and any((request.folder / name).is_file() for name in _SAVED):
            loaded = datasets.load_from_disk(str(request.folder))
        else:
            loaded = datasets.load_dataset(str(request.folder or request.name), request.config,
                                           revision=request.revision)
    except Exception as error:  # errors of datasets, huggingface_hub, fsspec, pyarrow and httpx
        offline = " (HF_HUB_OFFLINE is set: only what is in the cache of Hugging Face is used)" if (
            datasets.config.HF_HUB_OFFLINE and not request.folder) else ""
        raise DataError(f"data: {data!r} cannot be loaded{offline}: {reason(error)}") from error
    return dict(loaded) if isinstance(loaded, dict) else {str(loaded.split or "all"): loaded}


def _table(data: str, split: str, dataset: Any) -> Table:
    image = importlib.import_module("datasets").Image
    columns = [name for name, feature in dataset.features.items() if isinstance(feature, image)]
    chosen = columns if len(columns) == 1 else [name for name in NAMED if name in columns][:1]
    if not chosen:
        have = ", ".join(columns or dataset.features)
        raise DataError(f"data: {data!r}: {split} has several columns of images and none of them is called image "
                        f"({have})." if columns else f"data: {data!r}: {split} has no column of images ({have}).")
    rows = dataset.select_columns(chosen).cast_column(chosen[0], image(decode=False)).with_format("arrow")
    files = [entry["filename"] for entry in dataset.cache_files]
    return Table(split, rows, chosen[0], files[0] if files else "",
                 max((os.stat(file).st_mtime_ns for file in files), default=0))


def _rows(table: Table) -> list[Row]:
    """The rows with an image; the images themselves are not read."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    if not len(table.rows):
        return []
    column = table.rows[:][table.column]
    sizes = pc.binary_length(pc.struct_field(column, "bytes")).to_pylist()
    paths = pc.struct_field(column, "path").to_pylist()
    return [Row(table, number, -1 if size is None else size, Path(path or "").suffix)
            for number, (size, path) in enumerate(zip(sizes, paths, strict=True)) if size is not None or path]
