"""What ``inversion reconstruct`` does once its options are known to be well formed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inversion.console import Console, make_console, make_table, progress_bars
from inversion.files import user_path
from inversion.metrics import count_exact, counted, decibels, exact_note
from inversion.reconstruct.contact_sheet import MOST_PICTURES
from inversion.reconstruct.output import SHEET, TABLE, OutputFolder
from inversion.reconstruct.reconstruct import PictureScores, Size
from inversion.reconstruct.side_by_side import FileNames, LoadedRun, PictureResult, labels_of, load_lpips_once
from inversion.reconstruct.side_by_side import reconstruct_all as write_all
from inversion.reconstruct.sources import Source
from inversion.reconstruct.tiles import tile_count
from inversion.runs.load import TrainedRun, find_lpips, find_trained, load_reconstructor
from inversion.runs.train import out_of_memory_by_name
from inversion.tracking.connection import connect

ROWS_SHOWN = 40
SIZES = {"fit": "scaled and cropped to the run's image size, as its test images are (--size fit)",
         "tiles": "whole, at their own size, in blended tiles of the run's image size (--size tiles)"}


class Options(NamedTuple):
    """The options of the command, as given and well formed."""

    output: str
    size: Size
    lpips_weights: str | None
    device: str | None


def reconstruct(texts: Sequence[str], sources: Sequence[Source], options: Options, tracking_uri: str | None,
                experiment: str | None) -> None:
    """Loads the runs, and writes and shows what they make of pictures that can be read.

    Raises:
        InversionError: the request was wrong, or a reconstruction failed.
    """
    console = make_console()
    output_path = user_path(options.output, "--output")
    with progress_bars() as report:
        connection = connect(tracking_uri, experiment, create=False)
        runs = [find_trained(connection, text, options.device, everywhere=experiment is None) for text in texts]
        names = FileNames(sources, labels_of(runs), [run.config.image_size for run in runs], options.size)
        loaded, notes = _load(runs, options.lpips_weights)
        output = OutputFolder(output_path, names.all())
        with out_of_memory_by_name():
            results = write_all(sources, loaded, options.size, names, output, report)
    show(console, results, loaded, options.size)
    for line in notes:
        console.note(line)
    beyond = f" (the first {MOST_PICTURES} pictures)" if len(sources) > MOST_PICTURES else ""
    console.print(f"{output.path / SHEET}{beyond}", soft_wrap=True)
    console.print(f"{output.path / TABLE}", soft_wrap=True)


def show(console: Console, results: Sequence[PictureResult], runs: Sequence[LoadedRun], size: Size) -> None:
    """A row a picture and run, and each run's means."""
    table = make_table("picture", "size", "run", title=f"Pictures {SIZES[size]}")
    for column in ("PSNR (dB)", "SSIM", "LPIPS"):
        table.add_column(column, justify="right", no_wrap=True)
    image_sizes = {loaded.label: loaded.image_size for loaded in runs}
    for result in results[:ROWS_SHOWN]:
        table.add_row(result.source.path.name, _how(result, size, image_sizes[result.label]), result.label,
                      *_numbers(result.scores))
    if len(results) > ROWS_SHOWN:
        table.add_row(f"… and {len(results) - ROWS_SHOWN} more", f"in {TABLE}")
    if len(results) > len(runs):
        table.add_section()
        for loaded in runs:
            own = [result.scores for result in results if result.label == loaded.label]
            table.add_row("mean", "", loaded.label, *_numbers(_means(own)))
    console.print(table)
    if exact := exact_note(count_exact([result.scores.psnr for result in results])):
        console.print(exact)


def _load(runs: Sequence[TrainedRun], lpips_weights: str | None) -> tuple[list[LoadedRun], list[str]]:
    """The runs with their models and LPIPS, and what is to be known about them."""
    found = [find_lpips(run, lpips_weights) for run in runs]
    metrics = load_lpips_once([source for source, _ in found])
    loaded = [LoadedRun(label, run, load_reconstructor(run), lpips)
              for label, run, lpips in zip(labels_of(runs), runs, metrics, strict=True)]
    published = [f"{one.label} was trained in the published protocol: it rebuilds the normalised picture, and is "
                 "scored against that" for one in loaded if one.run.config.protocol == "published"]
    return loaded, [*dict.fromkeys(note for _, note in found if note), *published]


def _how(result: PictureResult, size: Size, image_size: int) -> str:
    """What was done to the picture: ``640×480 → 224×224``, or ``640×480, 12 tiles``."""
    (width, height), (made_width, made_height) = result.own_size, result.size
    if size == "tiles":
        count = tile_count(height, width, image_size)
        return f"{width}×{height}, {count} tile{'s' if count > 1 else ''}"
    enlarged = " (enlarged)" if min(width, height) < image_size else ""
    return f"{width}×{height} → {made_width}×{made_height}{enlarged}"


def _numbers(scores: Sequence[float | None]) -> list[str]:
    """PSNR, SSIM and LPIPS as texts."""
    psnr, *others = scores[:3]
    return [decibels(psnr).removesuffix(" dB") if psnr is not None else "",
            *(f"{value:.4f}" if value is not None else "" for value in others)]


def _means(scores: Sequence[PictureScores]) -> list[float | None]:
    """The mean of each score, PSNR as it counts in means."""
    finite = [each._replace(psnr=float(counted(each.psnr))) for each in scores]
    return [_mean(values) for values in zip(*finite, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
