"""The file of an exported study: a tar archive, compressed with Zstandard.

::

    study.json                    format, name, experiment, ids of the parent run and of all runs
    queue.json                    the Optuna study with its trials; absent if the study has no queue
    runs/ID/run.json              name, status, times, parameters, tags, all metrics, data sets
    runs/ID/artifacts/…           its artifacts
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa  # type: ignore[import-untyped]

from inversion.errors import RequestError
from inversion.files import open_regular, replacing, shown

FORMAT_VERSION = 1
STUDY_FILE, QUEUE_FILE, RUN_FILE, ARTIFACTS = "study.json", "queue.json", "run.json", "artifacts"


class ArchiveWriter:
    """Adds files to the archive that is being written."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add_json(self, name: str, content: Any) -> None:
        """Adds data as a JSON file."""
        data = json.dumps(content, indent=1).encode()
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def add_folder(self, name: str, folder: Path) -> None:
        """Adds the files of a folder, in the order of their names, without owner and times."""
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            info = tarfile.TarInfo(f"{name}/{path.relative_to(folder).as_posix()}")
            info.size = path.stat().st_size
            with path.open("rb") as file:
                self._tar.addfile(info, file)


@contextmanager
def writing(path: Path) -> Iterator[ArchiveWriter]:
    """An archive that takes the place of ``path`` when the block ends without an error.

    Raises:
        OSError: it cannot be written.
    """
    with (replacing(path) as temporary, pa.output_stream(str(temporary), compression="zstd") as stream,
          tarfile.open(fileobj=cast(IO[bytes], stream), mode="w|") as tar):
        yield ArchiveWriter(tar)


def extract(path: Path, folder: Path) -> dict[str, Any]:
    """Extracts an archive; returns the content of its ``study.json``.

    Raises:
        RequestError: the file cannot be read, is not an exported study, or was made by a newer version.
    """
    try:
        with (open_regular(path) as file, pa.CompressedInputStream(pa.PythonFile(file), "zstd") as stream,
              tarfile.open(fileobj=stream, mode="r|") as tar):
            tar.extractall(folder, filter="data")
        study = json.loads((folder / STUDY_FILE).read_text())
        version = study["format"]
    except (OSError, tarfile.TarError, pa.ArrowException, ValueError, LookupError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not an exported study"
        raise RequestError(f"{shown(path)} cannot be read: {reason}. Such files are made by inversion-study export."
                           ) from error
    if version != FORMAT_VERSION:
        raise RequestError(f"{shown(path)} was exported by a newer version of inversion (format {version}, this one "
                           f"reads {FORMAT_VERSION}). Update inversion on this machine.")
    return dict(study)
