"""Pictures through one run or several: files, scores and a contact sheet in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inversion.decibels import decibels
from inversion.errors import DataError, InversionError, RequestError
from inversion.file_names import safe_file_name, unique
from inversion.files import shown
from inversion.losses.lpips_weights import TrunkSource
from inversion.losses.perceptual import LPIPS
from inversion.progress import Progress, no_progress
from inversion.reconstruct.contact_sheet import MOST_PICTURES, SheetRow, contact_sheet, thumbnail
from inversion.reconstruct.output import SHEET, TABLE, OutputFolder
from inversion.reconstruct.reconstruct import Reconstruction, Size, reconstruct_picture
from inversion.reconstruct.scores import PictureScores
from inversion.reconstruct.sources import Source, read_picture
from inversion.runs.load import Reconstructor, TrainedRun


@dataclass(frozen=True)
class LoadedRun:
    """A run ready for pictures; its label is short, and no other one of the request has it."""

    label: str
    run: TrainedRun
    reconstructor: Reconstructor
    lpips: LPIPS | None

    @property
    def image_size(self) -> int:
        return self.run.config.image_size


@dataclass(frozen=True)
class PictureResult:
    """One picture by one run: the picture's own size, the reconstruction's, and the scores."""

    source: Source
    label: str
    own_size: tuple[int, int]
    size: tuple[int, int]
    scores: PictureScores


def labels_of(runs: Sequence[TrainedRun]) -> list[str]:
    """Run names without their fallbacks, with the beginning of the id where runs are called alike.

    Raises:
        RequestError: a run stands twice.
    """
    ids = [run.run_id for run in runs]
    if twice := [run for run in runs if ids.count(run.run_id) > 1]:
        raise RequestError(f"run {twice[0].run_id} ({twice[0].name}) is given twice")
    short = [run.name.partition(" (")[0] for run in runs]
    return [f"{name} {run.run_id[:8]}" if short.count(name) > 1 else name
            for name, run in zip(short, runs, strict=True)]


def load_lpips_once(sources: Sequence[TrunkSource | None]) -> list[LPIPS | None]:
    """The metric for each of several runs; the same weights are loaded once."""
    loaded = {source: source.load() for source in set(sources) if source}
    return [loaded[source] if source else None for source in sources]


class FileNames:
    """The files of each picture: ``cat_original.png``, ``cat_reconstruction.png``, ``cat_difference.png``.

    With several runs, ``cat_RUN_reconstruction.png``; with several sizes of images, ``cat_original_64px.png``.
    """

    def __init__(self, sources: Sequence[Source], labels: Sequence[str], image_sizes: Sequence[int],
                 size: Size) -> None:
        several_sizes = size == "fit" and len(set(image_sizes)) > 1
        runs = [f"_{name}" for name in unique(list(map(safe_file_name, labels)))] if len(labels) > 1 else [""]
        self._pixels = {label: f"_{pixels}px" if several_sizes else ""
                        for label, pixels in zip(labels, image_sizes, strict=True)}
        wanted: dict[tuple[str, str, str], str] = {}
        for source in sources:
            for label, run in zip(labels, runs, strict=True):
                pixels = self._pixels[label]
                wanted[source.name, pixels, "original"] = f"{source.name}_original{pixels}.png"
                for what in ("reconstruction", "difference"):
                    wanted[source.name, label, what] = f"{source.name}{run}_{what}.png"
        self._files = dict(zip(wanted, unique(list(wanted.values())), strict=True))

    def original(self, source: Source, label: str) -> str:
        """One file for all runs of the same size of images."""
        return self._files[source.name, self._pixels[label], "original"]

    def made(self, source: Source, label: str, what: str) -> str:
        """``what`` is ``reconstruction`` or ``difference``."""
        return self._files[source.name, label, what]

    def all(self) -> list[str]:
        """Every file of the request, each once."""
        return [*self._files.values(), SHEET, TABLE]


def reconstruct_all(sources: Sequence[Source], runs: Sequence[LoadedRun], size: Size, names: FileNames,
                    output: OutputFolder, progress: Progress = no_progress) -> list[PictureResult]:
    """Reconstructs every picture by every run, and writes all files.

    What ends it early leaves the files, the scores and the sheet of the pictures that were done before.

    Raises:
        InversionError: a picture is gone meanwhile, a file cannot be written, or memory is too small.
    """
    results: list[PictureResult] = []
    table: list[dict[str, object]] = []
    sheet: list[SheetRow] = []
    try:
        for done, source in enumerate(sources, start=1):
            pixels = _read_again(source)
            row: list[Reconstruction] = []
            rows: list[dict[str, object]] = []
            for loaded in runs:
                loaded.run.engine()  # its number of threads
                made = reconstruct_picture(pixels, size, loaded.image_size, loaded.reconstructor, loaded.lpips)
                row.append(made)
                files = {"original": names.original(source, loaded.label),
                         "reconstruction": names.made(source, loaded.label, "reconstruction"),
                         "difference": names.made(source, loaded.label, "difference")}
                for what, file in files.items():
                    output.write_image(file, getattr(made, what))
                height, width = made.original.shape[1:]
                result = PictureResult(source, loaded.label, (pixels.shape[1], pixels.shape[0]), (width, height),
                                       made.scores)
                results.append(result)
                rows.append(_table_row(result, loaded.run, size, files))
            table += rows
            if len(sheet) < MOST_PICTURES:
                sheet.append(_sheet_row(source, row))
            progress("reconstructing", done, len(sources))
    finally:
        if table:
            output.write_table(table)
            output.write_sheet(contact_sheet(sheet, [loaded.label for loaded in runs]))
    return results


def _read_again(source: Source) -> NDArray[np.uint8]:
    """A picture that was looked at before.

    Raises:
        InversionError: it cannot be used any more.
    """
    try:
        return read_picture(source)
    except DataError as error:
        raise InversionError(f"{error} (it was there when this command began)") from error


def _table_row(result: PictureResult, run: TrainedRun, size: Size, files: dict[str, str]) -> dict[str, object]:
    width, height = result.size
    return {"picture": shown(result.source.path), "run_id": run.run_id, "run": run.name, "size": size, "width": width,
            "height": height, **result.scores._asdict(), **files}


def _sheet_row(source: Source, row: Sequence[Reconstruction]) -> SheetRow:
    return SheetRow(shown(source.path.name), thumbnail(row[0].original),
                    [thumbnail(made.reconstruction) for made in row], [thumbnail(made.difference) for made in row],
                    [decibels(made.scores.psnr) for made in row])
