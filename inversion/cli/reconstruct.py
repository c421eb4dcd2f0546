"""``inversion reconstruct``: one's own pictures through trained runs."""

from __future__ import annotations

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import blank_is_default, no_blank, tracking_options
from inversion.config.run_config import parse_value
from inversion.console import progress_bars
from inversion.errors import RequestError
from inversion.files import shown, user_path, why_not_writable
from inversion.losses.lpips_weights import require_trunk_file


@click.command("reconstruct")
@click.argument("run", metavar="RUN", callback=no_blank)
@click.argument("pictures", metavar="PICTURE...", nargs=-1, required=True, callback=no_blank)
@click.option("--output", metavar="DIR", required=True, callback=no_blank,
              help="Folder for the results; made if need be.")
@click.option("--size", type=click.Choice(["fit", "tiles"]), default="fit", show_default=True,
              help="fit: scaled and cropped to the run's image size, as its test images are; tiles: the whole picture "
              "at its own size, cut into overlapping tiles that are blended.")
@click.option("--compare", metavar="RUN", multiple=True, callback=no_blank,
              help="Another run beside the first; can be given repeatedly.")
@click.option("--lpips-weights", metavar="FILE", callback=blank_is_default,
              help="AlexNet trunk of LPIPS: imagenet, a file, or off [default: each run's]")
@click.option("--device", metavar="DEVICE", callback=blank_is_default,
              help="cpu, cuda or cuda:N [default: the run's, where this machine has it]")
@tracking_options
def command(run: str, pictures: tuple[str, ...], output: str, size: str, compare: tuple[str, ...],
            lpips_weights: str | None, device: str | None, tracking_uri: str | None, experiment: str | None) -> None:
    """Send your own pictures through a trained run: original, reconstruction, difference, scores.

    RUN is a run's id, the beginning of one, or a run's name. A PICTURE is a file, a folder of pictures or a pattern,
    of any size and mode. DIR gets PNG files, scores.csv and contact-sheet.png; files in it that this command did not
    make are never replaced.

    \b
    Examples:
      inversion reconstruct 4fbe0d1c cat.jpg dog.png --output out
      inversion reconstruct vgg16:block1+wavelet ./holiday --output out --size tiles
      inversion reconstruct 4fbe0d1c cat.jpg --output out --compare 77ab02 --compare ensemble+concat+wavelet
    """
    device = parse_value("device", device) if device else None
    if lpips_weights:
        require_trunk_file(lpips_weights)
    if why := why_not_writable(user_path(output, "--output")):
        raise RequestError(f"--output {shown(output)} cannot be written: {why}")
    from inversion.reconstruct.sources import find_pictures, require_readable

    sources = find_pictures(pictures)
    with progress_bars() as report:
        require_readable(sources, report)
    with slow_imports():
        from inversion.cli import reconstructing

    options = reconstructing.Options(output, "tiles" if size == "tiles" else "fit", lpips_weights, device)
    reconstructing.reconstruct([run, *compare], sources, options, tracking_uri, experiment)
