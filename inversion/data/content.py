"""The bytes of a photograph: a file of its own, or packed into a larger one (a shard, a table).

Everything that reads photographs goes through these functions, so that both kinds are hashed, decoded and cached alike.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO

from inversion.files import file_sha256, open_regular, require_regular, shown


class Packed(ABC):
    """A photograph inside a larger file. Objects are hashable, and small: there are as many as photographs."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name with its extension, where it has one: ``train/cat/0001.jpg``."""

    @property
    @abstractmethod
    def folder(self) -> tuple[str, ...]:
        """The folders between the root of the set and the photograph, as if it had been unpacked there."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Identifies it in the hash index."""

    @property
    @abstractmethod
    def shown(self) -> str:
        """Where it is, for a message."""

    @abstractmethod
    def stamp(self) -> tuple[int, int]:
        """Size in bytes, and the modification time in nanoseconds of what it lies in.

        Raises:
            OSError: it is not there any more.
        """

    @abstractmethod
    def read(self) -> bytes:
        """Its bytes.

        Raises:
            OSError: they cannot be read.
        """


Place = Path | Packed
"""Where the bytes of a photograph are."""


def opened(place: Place) -> BinaryIO:
    """A photograph's bytes as a file that is open for reading.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    return io.BytesIO(place.read()) if isinstance(place, Packed) else open_regular(place)


def stamp(place: Place) -> tuple[int, int]:
    """Size in bytes and modification time in nanoseconds; neither changes as long as the content does not.

    Raises:
        OSError: it is not there, or is no regular file.
    """
    if isinstance(place, Packed):
        return place.stamp()
    status = require_regular(place)
    return status.st_size, status.st_mtime_ns


def sha256(place: Place) -> str:
    """SHA-256 of a photograph's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    return hashlib.sha256(place.read()).hexdigest() if isinstance(place, Packed) else file_sha256(place)


def key(place: Place) -> str:
    """Identifies a photograph in the hash index."""
    return place.key if isinstance(place, Packed) else os.path.abspath(place)


def described(place: Place) -> str:
    """Where a photograph is, for a message."""
    return place.shown if isinstance(place, Packed) else shown(place)


def suffix(place: Place) -> str:
    """The extension with its dot, in lower case; empty without one."""
    return (Path(place.name) if isinstance(place, Packed) else place).suffix.lower()
