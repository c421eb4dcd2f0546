"""The folder of results: which files, and never over somebody else's."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from inversion.data.files import shown
from inversion.errors import RequestError
from inversion.images import to_uint8
from inversion.text import visible

SHEET, TABLE = "contact-sheet.png", "scores.csv"
MANIFEST = ".made-by-inversion"
"""Lists the files that this command has made in the folder, one a line: those it may replace."""


class OutputFolder:
    """A folder that files are written into, of which all are named beforehand."""

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        """Makes the folder and claims the names in it.

        Raises:
            RequestError: it cannot be made or written, or has files of these names that this command did not make.
        """
        self.path = path
        names = list(names)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            manifest = path / MANIFEST
            made = manifest.read_text().splitlines() if manifest.exists() else []
            if foreign := [name for name in names if name not in made and (path / name).exists()]:
                raise RequestError(f"--output {shown(path)} already has {foreign[0]}"
                                   f"{f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''}, which this command "
                                   "did not make: choose another folder, or move them away")
            manifest.write_text("".join(f"{name}\n" for name in sorted({*made, *names})))
        except OSError as error:
            raise RequestError(f"--output {shown(path)} cannot be written: {error.strerror or error}") from error

    def write_image(self, name: str, image: Tensor) -> None:
        """An image ``(3, H, W)`` in [0, 1] as PNG."""
        Image.fromarray(to_uint8(image)).save(self.path / name, format="PNG")

    def write_table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Rows of equal keys as ``scores.csv``; None is empty. People look at it in terminals, so texts are escaped."""
        with (self.path / TABLE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            for row in rows:
                writer.writerow({key: visible(value) if isinstance(value, str) else value
                                 for key, value in row.items()})
