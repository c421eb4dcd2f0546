"""``inversion data``: download, verify and cache images before training."""

from __future__ import annotations

from pathlib import Path

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import ParameterType, blank_is_default, no_blank
from inversion.console import make_console, make_table, progress_bars
from inversion.data import datasets as catalog
from inversion.data import div2k
from inversion.images import stored_size


@click.command("data")
@click.argument("name", metavar="NAME|FOLDER|SHARDS", callback=no_blank)
@click.option("--data-dir", metavar="FOLDER", callback=blank_is_default,
              help="Where downloads and caches are kept [default: user's cache folder]")
@click.option("--image-size", type=ParameterType("image_size"), default=224, metavar="SIZE", show_default=True,
              help="Crop size for which to build the cache.")
def command(name: str, data_dir: str | None, image_size: int) -> None:
    """Fetch a data set, verify every image, build the cache, and print the splits.

    \b
    Examples:
      inversion data sample          the images that come with this package's dependencies
      inversion data div2k           DIV2K: downloads 3.9 GB, resumes an interrupted download
      inversion data ./photos        a folder: with train/val/test inside, or else a fixed 70/15/15 split
      inversion data 'shards/{000..099}.tar'   WebDataset shards
      inversion data hf:NAME         a data set of the Hugging Face Hub; needs the package datasets
    """
    if name != "div2k":
        catalog.require_data(name, Path())
    with slow_imports():
        from inversion.data.cache import load_cached
        from inversion.data.duplicates import across_splits

    folder = catalog.data_folder(data_dir)
    with progress_bars() as report:
        if name == "div2k" and not div2k.is_present(folder):
            div2k.fetch(folder, report)
        photos = catalog.find_photo_set(name, folder, report)
        cache = load_cached(photos, image_size, catalog.cache_folder(folder), report)
        leaks = across_splits(cache, report)
    console = make_console()
    table = make_table("split", "images", "smallest", "largest", "first",
                       title=f"{photos.name} ({photos.root}): stored with shorter side {stored_size(image_size)}")
    for split in photos.splits:
        shapes = sorted((pixels.shape[:2] for pixels in cache.pixels(split)), key=lambda shape: shape[0] * shape[1])
        smallest, largest = (f"{width}×{height}" for height, width in (shapes[0], shapes[-1]))
        table.add_row(split, str(len(shapes)), smallest, largest, ", ".join(cache.names(split)[:3]))
    console.print(table)
    for line in (*photos.lines(), *leaks):
        console.note(line)
    console.print(f"digest {cache.digest}", soft_wrap=True)
    console.print(f"cache {cache.path}", soft_wrap=True)
