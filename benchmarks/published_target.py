"""What is left of a photograph in the target of ``protocol=published``: clipped values, and what one colour scores."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from inversion.data.batches import center_crops
from inversion.data.cache import load_cached
from inversion.data.datasets import cache_folder, data_folder, find_photo_set
from inversion.images import IMAGENET, from_stored, normalise


@click.command()
@click.option("--data", required=True, metavar="FOLDER", help="Photographs; the test split is read.")
@click.option("--image-size", default=224, show_default=True)
def cli(data: str, image_size: int) -> None:
    """Print shares of the published protocol's targets over the test photographs of a folder."""
    folder = data_folder(None)
    pixels = load_cached(find_photo_set(data, folder), image_size, cache_folder(Path(folder))).pixels("test")
    normalised = normalise(from_stored(center_crops(pixels, image_size)), IMAGENET)
    low, high = normalised < 0, normalised > 1
    target = normalised.clamp(0, 1)
    errors = (target - target.mean((2, 3), keepdim=True)).square().mean((1, 2, 3))
    table = Table(title=f"{len(pixels)} test photographs of {data}, {image_size} px", box=None, show_header=False)
    for what, value in (("channel values clipped to 0", f"{100 * low.float().mean():.0f} %"),
                        ("channel values clipped to 1", f"{100 * high.float().mean():.0f} %"),
                        ("pixels with a clipped channel", f"{100 * (low | high).any(1).float().mean():.0f} %"),
                        ("PSNR of the target's mean colour", f"{-10 * errors.log10().mean():.2f} dB")):
        table.add_row(what, value)
    Console().print(table)


if __name__ == "__main__":
    cli()
