"""``inversion reconstruct``: reconstructs the user's own pictures with trained runs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import click

from inversion.cli.imports import slow_imports
from inversion.cli.lookup import look_up_runs
from inversion.cli.options import best_of_option, blank_is_default, no_blank, tracking_options, trust_code_option
from inversion.config.run_config import parse_value
from inversion.console import Console, make_console, make_table, progress_bars
from inversion.errors import RequestError
from inversion.files import shown, user_path, why_not_writable
from inversion.losses.lpips_weights import require_trunk_file

if TYPE_CHECKING:
    from inversion.reconstruct.reconstruct import PictureScores, Size
    from inversion.reconstruct.side_by_side import LoadedRun, PictureResult
    from inversion.runs.load import TrainedRun

ROWS_SHOWN = 40
SIZES = {"fit": "scaled and cropped to the run's image size, as its test images are (--size fit)",
         "tiles": "whole, at their own size, in blended tiles of the run's image size (--size tiles)"}


@click.command("reconstruct")
@click.argument("words", metavar="RUN PICTURE...", nargs=-1, required=True, callback=no_blank)
@best_of_option
@click.option("--output", metavar="DIR", required=True, callback=no_blank,
              help="Folder for the results; created if missing.")
@click.option("--size", type=click.Choice(["fit", "tiles"]), default="fit", show_default=True,
              help="fit: scaled and cropped to the run's image size, as its test images are; tiles: the whole picture "
              "at its own size, cut into overlapping tiles that are blended.")
@click.option("--compare", metavar="RUN", multiple=True, callback=no_blank,
              help="Another run to compare; can be repeated.")
@click.option("--lpips-weights", metavar="FILE", callback=blank_is_default,
              help="AlexNet trunk of LPIPS: imagenet, a file, or off [default: each run's]")
@click.option("--device", metavar="DEVICE", callback=blank_is_default,
              help="cpu, cuda or cuda:N [default: the run's, if available]")
@trust_code_option
@tracking_options
def command(words: tuple[str, ...], best_of: str | None, output: str, size: str, compare: tuple[str, ...],
            lpips_weights: str | None, device: str | None, trust_code: bool, tracking_uri: str | None,
            experiment: str | None) -> None:
    """Reconstruct your own pictures with a trained run: original, reconstruction, difference, scores.

    RUN is a run's id, the beginning of one, a run's name, or STUDY/NAME. A PICTURE is a file, a folder of pictures or a
    pattern, of any size and mode. Writes PNG files, scores.csv and contact-sheet.png to DIR; files that this command
    did not create are never replaced.

    \b
    Examples:
      inversion reconstruct 4fbe0d1c cat.jpg dog.png --output out
      inversion reconstruct smoke/vgg16:block1+wavelet ./holiday --output out --size tiles
      inversion reconstruct --best-of smoke cat.jpg --output out
      inversion reconstruct 4fbe0d1c cat.jpg --output out --compare 77ab02 --compare ensemble+concat+wavelet
    """
    run, pictures = (None, words) if best_of else (words[0], words[1:])
    if not pictures:
        raise click.UsageError(f"give a PICTURE after the run {run!r}, or --best-of STUDY in place of the run")
    device = parse_value("device", device) if device else None
    if lpips_weights:
        require_trunk_file(lpips_weights)
    output_path = user_path(output, "--output")
    if why := why_not_writable(output_path):
        raise RequestError(f"--output {shown(output)} cannot be written: {why}")
    from inversion.reconstruct.sources import find_pictures, require_readable

    sources = find_pictures(pictures)
    with progress_bars() as report:
        require_readable(sources, report)
    look_up_runs([*([run] if run else []), *compare], tracking_uri, experiment)
    with slow_imports():
        from inversion.reconstruct.contact_sheet import MOST_PICTURES
        from inversion.reconstruct.output import SHEET, TABLE, OutputFolder
        from inversion.reconstruct.side_by_side import FileNames, labels_of, reconstruct_all
        from inversion.report.best_run import find_best
        from inversion.runs.load import find_trained
        from inversion.runs.train import convert_out_of_memory
        from inversion.tracking.connection import connect

    how: Size = "tiles" if size == "tiles" else "fit"
    console = make_console()
    with progress_bars() as report:
        connection = connect(tracking_uri, experiment, create=False)
        first = run or find_best(connection, str(best_of))
        runs = [find_trained(connection, text, device, everywhere=experiment is None) for text in (first, *compare)]
        names = FileNames(sources, labels_of(runs), [each.config.image_size for each in runs], how)
        loaded, notes = _load(runs, lpips_weights, trust_code)
        folder = OutputFolder(output_path, names.all())
        with convert_out_of_memory():
            results = reconstruct_all(sources, loaded, how, names, folder, report)
    _show(console, results, loaded, how)
    for line in notes:
        console.note(line)
    beyond = f" (the first {MOST_PICTURES} pictures)" if len(sources) > MOST_PICTURES else ""
    console.print(f"{folder.path / SHEET}{beyond}", soft_wrap=True)
    console.print(f"{folder.path / TABLE}", soft_wrap=True)


def _show(console: Console, results: Sequence[PictureResult], runs: Sequence[LoadedRun], size: Size) -> None:
    """Prints a row for each picture and run, and each run's means."""
    from inversion.metrics import count_exact, exact_note
    from inversion.reconstruct.output import TABLE

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


def _load(runs: Sequence[TrainedRun], lpips_weights: str | None, trust_code: bool
          ) -> tuple[list[LoadedRun], list[str]]:
    """The runs with their models and LPIPS, and notes about them."""
    from inversion.reconstruct.side_by_side import LoadedRun, labels_of, load_lpips_once
    from inversion.runs.load import find_lpips, load_reconstructor

    found = [find_lpips(run, lpips_weights) for run in runs]
    metrics = load_lpips_once([source for source, _ in found])
    loaded = [LoadedRun(label, run, load_reconstructor(run, trust_code), lpips)
              for label, run, lpips in zip(labels_of(runs), runs, metrics, strict=True)]
    published = [f"{one.label} was trained in the published protocol: it reconstructs the normalised picture, "
                 "and is scored against that" for one in loaded if one.run.config.protocol == "published"]
    return loaded, [*dict.fromkeys(note for _, note in found if note), *published]


def _how(result: PictureResult, size: Size, image_size: int) -> str:
    """What was done to the picture: ``640×480 → 224×224``, or ``640×480, 12 tiles``."""
    from inversion.reconstruct.tiles import tile_count

    (width, height), (made_width, made_height) = result.own_size, result.size
    if size == "tiles":
        count = tile_count(height, width, image_size)
        return f"{width}×{height}, {count} tile{'s' if count > 1 else ''}"
    enlarged = " (enlarged)" if min(width, height) < image_size else ""
    return f"{width}×{height} → {made_width}×{made_height}{enlarged}"


def _numbers(scores: Sequence[float | None]) -> list[str]:
    """PSNR, SSIM and LPIPS, formatted."""
    from inversion.metrics import decibels

    psnr, *others = scores[:3]
    return [decibels(psnr).removesuffix(" dB") if psnr is not None else "",
            *(f"{value:.4f}" if value is not None else "" for value in others)]


def _means(scores: Sequence[PictureScores]) -> list[float | None]:
    """The mean of each score, with PSNR capped as in all means."""
    from inversion.metrics import counted

    finite = [each._replace(psnr=float(counted(each.psnr))) for each in scores]
    return [_mean(values) for values in zip(*finite, strict=True)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
