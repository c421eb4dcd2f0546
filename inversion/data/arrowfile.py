"""Decoded photographs in one memory-mapped Arrow IPC file: processes share its pages, and nothing is copied.

One row per photograph: name, split, SHA-256 of the image file, height, width, pixels (``H·W·3`` bytes, RGB, row by row)
and their CRC-32.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

FORMAT_VERSION = 1

_COLUMNS = [("name", pa.string()), ("split", pa.string()), ("sha256", pa.string()), ("height", pa.int32()),
            ("width", pa.int32()), ("crc32", pa.uint32()), ("pixels", pa.large_binary())]


class Row(NamedTuple):
    """Identifies a photograph in the file."""

    name: str
    split: str
    sha256: str


class BrokenFileError(Exception):
    """The file is damaged or holds other content than expected; the message says which."""


def write(path: Path, metadata: dict[str, str], photos: Iterable[tuple[Row, NDArray[np.uint8]]]) -> None:
    """Writes photographs, ``uint8 (H, W, 3)`` each, as a stream: only a few are in memory at a time.

    Raises:
        OSError: the file cannot be written.
    """
    schema = pa.schema(_COLUMNS, metadata=metadata)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for row, pixels in photos:
            height, width, _ = pixels.shape
            content = pixels.tobytes()
            values = [*row, height, width, zlib.crc32(content), content]
            arrays = [pa.array([value], kind) for value, (_, kind) in zip(values, _COLUMNS, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))


def read(path: Path, metadata: dict[str, str], rows: Sequence[Row]) -> list[NDArray[np.uint8]]:
    """The pixels of the rows, in order: read-only ``uint8 (H, W, 3)`` views of the mapped file.

    Names may differ from those in the file: a photograph that was only renamed has the same pixels.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenFileError: it is truncated or damaged, or has other rows or other metadata.
    """
    with _as_broken_file():
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)
        stored = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if stored != metadata:
            raise BrokenFileError(f"written as {stored}, wanted {metadata}")
        if list(zip(table["split"].to_pylist(), table["sha256"].to_pylist(), strict=True)) != [row[1:] for row in rows]:
            raise BrokenFileError("it holds other photographs")
        columns = (table["pixels"], table["height"].to_pylist(), table["width"].to_pylist(), table["crc32"].to_pylist())
        return [_pixels(*values) for values in zip(*columns, strict=True)]


def _pixels(value: pa.LargeBinaryScalar, height: int, width: int, crc32: int) -> NDArray[np.uint8]:
    buffer = value.as_buffer()
    if zlib.crc32(buffer) != crc32:
        raise BrokenFileError("pixels are damaged")
    return np.frombuffer(buffer, np.uint8).reshape(height, width, 3)


@contextmanager
def _as_broken_file() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise BrokenFileError(str(error).partition("\n")[0]) from error
