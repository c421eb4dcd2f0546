"""Decoded photographs in one memory-mapped Arrow IPC stream: processes share its pages, and nothing is copied.

One row per photograph: name, split, SHA-256 of the image file, height, width, pixels (``H·W·3`` bytes, RGB, row by row)
and their CRC-32. Rows are written in batches; a file whose writer was killed is continued after its last whole batch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

FORMAT_VERSION = 2

BATCH_ROWS, BATCH_BYTES = 64, 2**24
"""A batch has at most so many photographs, and ends with the one that exceeds so many bytes. With one row per batch,
each photograph takes 8 KB of memory as long as the file is open (measured in docs/log.md)."""

END = b"\xff\xff\xff\xff\0\0\0\0"
"""The end-of-stream marker of the format."""

_COLUMNS = [("name", pa.string()), ("split", pa.string()), ("sha256", pa.string()), ("height", pa.int32()),
            ("width", pa.int32()), ("crc32", pa.uint32()), ("pixels", pa.large_binary())]


class Row(NamedTuple):
    """Identifies a photograph in the file."""

    name: str
    split: str
    sha256: str


class BrokenFileError(Exception):
    """The file is damaged or holds other content than expected; the message says which."""


def write(
    path: Path, metadata: dict[str, str], photos: Iterable[tuple[Row, NDArray[np.uint8]]], after: int = 0
) -> None:
    """Writes photographs, ``uint8 (H, W, 3)`` each: only those of one batch are in memory at a time.

    Args:
        path: the file.
        metadata: what the pixels depend on.
        photos: the photographs.
        after: the position where to continue, from ``unfinished``; 0 begins a new file.

    Raises:
        OSError: the file cannot be written.
    """
    schema = pa.schema(_COLUMNS, metadata=metadata)
    with path.open("r+b" if after else "wb") as file:
        file.seek(after)
        file.truncate()
        if not after:
            file.write(schema.serialize())
        for batch in _batches(photos):
            arrays = [pa.array(values, kind) for values, (_, kind) in zip(batch, _COLUMNS, strict=True)]
            file.write(pa.record_batch(arrays, schema=schema).serialize())
            file.flush()
        file.write(END)


def unfinished(path: Path, metadata: dict[str, str], rows: Sequence[Row]) -> tuple[int, int]:
    """How far the writer of a file came: the number of the first rows that are in it undamaged, and where they end.

    Both are 0 if it cannot be continued: there is no such file, or it holds something else.
    """
    count = position = 0
    try:
        with _as_broken_file(), pa.memory_map(str(path)) as source:
            for _, found in _read_batches(source, metadata, rows):
                count, position = found, source.tell()
    except (FileNotFoundError, BrokenFileError):
        pass
    return count, position


def read(path: Path, metadata: dict[str, str], rows: Sequence[Row]) -> list[NDArray[np.uint8]]:
    """The pixels of the rows, in order: read-only ``uint8 (H, W, 3)`` views of the mapped file.

    Names may differ from those in the file: a photograph that was only renamed has the same pixels.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenFileError: it is truncated or damaged, or has other rows or other metadata.
    """
    pixels: list[NDArray[np.uint8]] = []
    with _as_broken_file():
        for views, _ in _read_batches(pa.memory_map(str(path)), metadata, rows):
            pixels += views
    if len(pixels) != len(rows):
        raise BrokenFileError(f"it holds {len(pixels)} of {len(rows)} photographs")
    return pixels


def _batches(photos: Iterable[tuple[Row, NDArray[np.uint8]]]) -> Iterator[list[list[Any]]]:
    """The columns of each batch."""
    rest = iter(photos)
    while True:
        values, size = [], 0
        for row, pixels in islice(rest, BATCH_ROWS):
            content = pixels.tobytes()
            values.append((*row, *pixels.shape[:2], zlib.crc32(content), content))
            size += len(content)
            if size > BATCH_BYTES:
                break
        if not values:
            return
        yield [list(column) for column in zip(*values, strict=True)]


def _read_batches(source: pa.NativeFile, metadata: dict[str, str], rows: Sequence[Row]
                  ) -> Iterator[tuple[list[NDArray[np.uint8]], int]]:
    """Yields the pixels of each batch, after checking them, and the number of rows up to its end."""
    reader = pa.ipc.open_stream(source)
    stored = {key.decode(): value.decode() for key, value in (reader.schema.metadata or {}).items()}
    if stored != metadata:
        raise BrokenFileError(f"written as {stored}, wanted {metadata}")
    count = 0
    for batch in reader:
        batch.validate(full=True)
        expected = [row[1:] for row in rows[count:count + len(batch)]]
        if list(zip(batch["split"].to_pylist(), batch["sha256"].to_pylist(), strict=True)) != expected:
            raise BrokenFileError("it holds other photographs")
        count += len(batch)
        columns = (batch["height"].to_pylist(), batch["width"].to_pylist(), batch["crc32"].to_pylist())
        yield [_checked(*values) for values in zip(_views(batch["pixels"]), *columns, strict=True)], count


def _views(column: pa.LargeBinaryArray) -> list[NDArray[np.uint8]]:
    """The bytes of each row: views of one array, which take a tenth of the memory of Arrow's scalars."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int64, len(column) + 1, 8 * column.offset).tolist()
    whole = np.frombuffer(data, np.uint8)
    return [whole[start:end] for start, end in pairwise(ends)]


def _checked(content: NDArray[np.uint8], height: int, width: int, crc32: int) -> NDArray[np.uint8]:
    if zlib.crc32(content.data) != crc32:
        raise BrokenFileError("pixels are damaged")
    return content.reshape(height, width, 3)


@contextmanager
def _as_broken_file() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, LookupError, pa.ArrowException) as error:
        raise BrokenFileError(str(error).partition("\n")[0]) from error
