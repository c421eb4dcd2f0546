"""Pictures through one run or several: files, scores and a contact sheet in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inversion.data.progress import Progress, quiet
from inversion.decibels import decibels
from inversion.errors import RequestError
from inversion.losses import LPIPS
from inversion.perceptual_weights import TrunkSource
from inversion.pictures.contact_sheet import MOST_PICTURES, SheetRow, contact_sheet, thumbnail
from inversion.pictures.output import SHEET, TABLE, OutputFolder
from inversion.pictures.reconstruct import Reconstruction, Size, reconstruct_picture
from inversion.pictures.scores import PictureScores
from inversion.pictures.sources import Source, read_picture, safe_file_name
from inversion.trained import Reconstructor, TrainedRun


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

    def __init__(self, labels: Sequence[str], image_sizes: Sequence[int], size: Size) -> None:
        self.sizes = dict(zip(labels, image_sizes, strict=True))
        self.several_runs = len(labels) > 1
        self.several_sizes = size == "fit" and len(set(image_sizes)) > 1

    def original(self, source: Source, label: str) -> str:
        return f"{source.name}_original{f'_{self.sizes[label]}px' if self.several_sizes else ''}.png"

    def made(self, source: Source, label: str, what: str) -> str:
        """``what`` is ``reconstruction`` or ``difference``."""
        return f"{source.name}_{f'{safe_file_name(label)}_' if self.several_runs else ''}{what}.png"

    def all(self, sources: Sequence[Source]) -> list[str]:
        """Every file of a request, each once."""
        names = [name for source in sources for label in self.sizes for name in (
            self.original(source, label), self.made(source, label, "reconstruction"),
            self.made(source, label, "difference"))]
        return list(dict.fromkeys([*names, SHEET, TABLE]))


def reconstruct_all(sources: Sequence[Source], runs: Sequence[LoadedRun], size: Size, names: FileNames,
                    output: OutputFolder, progress: Progress = quiet) -> list[PictureResult]:
    """Reconstructs every picture by every run, and writes all files.

    Raises:
        InversionError: a picture is gone meanwhile, or memory is too small.
    """
    results: list[PictureResult] = []
    table: list[dict[str, object]] = []
    sheet: list[SheetRow] = []
    for done, source in enumerate(sources, start=1):
        pixels = read_picture(source)
        row: list[Reconstruction] = []
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
            table.append(_table_row(result, loaded.run, size, files))
        if len(sheet) < MOST_PICTURES:
            sheet.append(_sheet_row(source, row))
        progress("reconstructing", done, len(sources))
    output.write_table(table)
    contact_sheet(sheet, [loaded.label for loaded in runs]).save(Path(output.path) / SHEET)
    return results


def _table_row(result: PictureResult, run: TrainedRun, size: Size, files: dict[str, str]) -> dict[str, object]:
    width, height = result.size
    return {"picture": str(result.source.path), "run_id": run.run_id, "run": run.name, "size": size, "width": width,
            "height": height, **result.scores._asdict(), **files}


def _sheet_row(source: Source, row: Sequence[Reconstruction]) -> SheetRow:
    return SheetRow(source.path.name, thumbnail(row[0].original), [thumbnail(made.reconstruction) for made in row],
                    [thumbnail(made.difference) for made in row], [decibels(made.scores.psnr) for made in row])
