"""The output folder: writing results without replacing files of others."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from torch import Tensor

from inversion.errors import InversionError, RequestError
from inversion.files import NotRegularFileError, open_regular, replacing, shown
from inversion.images import to_uint8
from inversion.text import visible

SHEET, TABLE = "contact-sheet.png", "scores.csv"
MANIFEST = ".made-by-inversion"
"""Lists the files that this command has created in the folder, one per line. Only these are replaced."""


class OutputFolder:
    """A folder for files whose names are known beforehand.

    Each file is written under a temporary name and then renamed, so that a symbolic link is replaced, not followed.
    """

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        """Creates the folder, and lists the names in its manifest.

        Raises:
            RequestError: the folder cannot be created or written, or has files of these names that this command did not
                create.
        """
        self.path = path
        names = list(names)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            made = self._made()
            if foreign := [name for name in names if self._is_foreign(name, made)]:
                raise RequestError(f"--output {shown(path)} already has {foreign[0]}"
                                   f"{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, which this command "
                                   "did not make: choose another folder, or move them away")
            with replacing(path / MANIFEST) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in sorted({*made, *names})), "utf-8")
        except OSError as error:
            is_broken_link = os.path.islink(path) and not os.path.exists(path)
            why = "it is a link to nowhere" if is_broken_link else error.strerror or error
            raise RequestError(f"--output {shown(path)} cannot be written: {why}") from error

    def write_image(self, name: str, image: Tensor) -> None:
        """Writes an image ``(3, H, W)`` in [0, 1] as PNG.

        Raises:
            InversionError: the file cannot be written.
        """
        with self._written(name) as file:
            Image.fromarray(to_uint8(image)).save(file, format="PNG")

    def write_sheet(self, sheet: Image.Image) -> None:
        """Writes the contact sheet.

        Raises:
            InversionError: the file cannot be written.
        """
        with self._written(SHEET) as file:
            sheet.save(file, format="PNG")

    def write_table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Writes rows with equal keys as ``scores.csv``; None becomes an empty cell.

        Control characters are escaped, because the file may be displayed in a terminal.

        Raises:
            InversionError: the file cannot be written.
        """
        with self._written(TABLE) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow({key: visible(value) if isinstance(value, str) else value
                                 for key, value in row.items()})

    @contextmanager
    def _written(self, name: str) -> Iterator[Path]:
        try:
            with replacing(self.path / name) as temporary:
                yield temporary
        except OSError as error:
            raise InversionError(f"{self.path / name} cannot be written: {error.strerror or error}") from error

    def _made(self) -> set[str]:
        """The names in the manifest; none if it is not a regular file."""
        try:
            with open_regular(self.path / MANIFEST) as file:
                return set(file.read().decode("utf-8", "replace").splitlines())
        except (FileNotFoundError, NotRegularFileError):
            return set()

    def _is_foreign(self, name: str, made: set[str]) -> bool:
        """Whether the folder has something of this name that is not a regular file created by this command."""
        path = self.path / name
        return os.path.lexists(path) and (name not in made or path.is_symlink() or not path.is_file())
