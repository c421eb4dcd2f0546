"""Reconstructing pictures with one or several runs: files, scores and a contact sheet in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inversion.errors import DataError, InversionError, RequestError
from inversion.files import safe_file_name, shown, unique
from inversion.losses.lpips import LPIPS
from inversion.losses.lpips_weights import TrunkSource
from inversion.metrics import decibels
from inversion.progress import Progress, no_progress
from inversion.reconstruct.contact_sheet import MOST_PICTURES, SheetRow, contact_sheet, thumbnail
from inversion.reconstruct.output import SHEET, TABLE, OutputFolder
from inversion.reconstruct.reconstruct import PictureScores, Reconstruction, Size, reconstruct_picture
from inversion.reconstruct.sources import Source, read_picture
from inversion.runs.load import Reconstructor, TrainedRun


@dataclass(frozen=True)
class LoadedRun:
    """A run with its model; the label is short, and unique in the request."""

    label: str
    run: TrainedRun
    reconstructor: Reconstructor
    lpips: LPIPS | None

    @property
    def image_size(self) -> int:
        return self.run.config.image_size


@dataclass(frozen=True)
class PictureResult:
    """One picture reconstructed by one run: the picture's ``own_size``, the reconstruction's ``size``, the scores."""

    source: Source
    label: str
    own_size: tuple[int, int]
    size: tuple[int, int]
    scores: PictureScores


def labels_of(runs: Sequence[TrainedRun]) -> list[str]:
    """Run names without their fallbacks; runs with equal names get the beginning of their id.

    Raises:
        RequestError: a run is given twice.
    """
    ids = [run.run_id for run in runs]
    if twice := [run for run in runs if ids.count(run.run_id) > 1]:
        raise RequestError(f"run {twice[0].run_id} ({twice[0].name}) is given twice")
    short = [run.name.partition(" (")[0] for run in runs]
    return [f"{name} {run.run_id[:8]}" if short.count(name) > 1 else name
            for name, run in zip(short, runs, strict=True)]


def load_lpips_once(sources: Sequence[TrunkSource | None]) -> list[LPIPS | None]:
    """The LPIPS metric of each run; equal weights are loaded only once."""
    loaded = {source: source.load() for source in set(sources) if source}
    return [loaded[source] if source else None for source in sources]


class FileNames:
    """The files of each picture: ``cat_original.png``, ``cat_reconstruction.png``, ``cat_difference.png``.

    With several runs, ``cat_RUN_reconstruction.png``; with several image sizes, ``cat_original_64px.png``.
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
        """The file of the original, shared by runs of the same image size."""
        return self._files[source.name, self._pixels[label], "original"]

    def result(self, source: Source, label: str, what: str) -> str:
        """The file of a result; ``what`` is ``reconstruction`` or ``difference``."""
        return self._files[source.name, label, what]

    def all(self) -> list[str]:
        """All files of the request."""
        return [*self._files.values(), SHEET, TABLE]


def reconstruct_all(sources: Sequence[Source], runs: Sequence[LoadedRun], size: Size, names: FileNames,
                    output: OutputFolder, progress: Progress = no_progress) -> list[PictureResult]:
    """Reconstructs every picture with every run, and writes all files.

    If an error ends it early, the files, scores and sheet of the earlier pictures are written.

    Raises:
        InversionError: a picture can no longer be read, a file cannot be written, or memory ran out.
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
                loaded.run.engine()  # sets the number of threads
                made = reconstruct_picture(pixels, size, loaded.image_size, loaded.reconstructor, loaded.lpips)
                row.append(made)
                files = {"original": names.original(source, loaded.label),
                         "reconstruction": names.result(source, loaded.label, "reconstruction"),
                         "difference": names.result(source, loaded.label, "difference")}
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
    """Reads a picture that ``require_readable`` has read before.

    Raises:
        InversionError: it can no longer be read.
    """
    try:
        return read_picture(source)
    except DataError as error:
        raise InversionError(f"{error} (it was readable when this command began)") from error


def _table_row(result: PictureResult, run: TrainedRun, size: Size, files: dict[str, str]) -> dict[str, object]:
    width, height = result.size
    return {"picture": shown(result.source.path), "run_id": run.run_id, "run": run.name, "size": size, "width": width,
            "height": height, **result.scores._asdict(), **files}


def _sheet_row(source: Source, row: Sequence[Reconstruction]) -> SheetRow:
    return SheetRow(shown(source.path.name), thumbnail(row[0].original),
                    [thumbnail(made.reconstruction) for made in row], [thumbnail(made.difference) for made in row],
                    [decibels(made.scores.psnr) for made in row])
