"""What does the search for near-duplicates find, what does it take for one, and what does it cost?

Every photograph of a folder is a scene of its own here. Copies of each are made as data sets have them, one kind at a
time, and looked for among all of them.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from inversion.data import duplicates
from inversion.data.cache import load_cached
from inversion.data.decode import scaled_pixels
from inversion.data.duplicates import VIEWS, Prints, near_duplicates
from inversion.data.folder import photo_set
from inversion.images import stored_size
from inversion.progress import no_progress
from inversion.seeds import derive_seed

Pixels = NDArray[np.uint8]


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """Through JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def smaller(image: Image.Image, factor: int) -> Image.Image:
    """A bicubic low-resolution copy."""
    return image.resize((image.width // factor, image.height // factor), Image.Resampling.BICUBIC)


def crop(image: Image.Image, low: float, high: float) -> Image.Image:
    """A part of any place, its sides between ``low`` and ``high`` of the photograph's."""
    draws = np.random.RandomState(derive_seed(0, image.tobytes()[:100].hex(), round(100 * low)) % 2**32)
    width, height = (round(draws.uniform(low, high) * side) for side in image.size)
    left, top = draws.randint(0, image.width - width + 1), draws.randint(0, image.height - height + 1)
    return image.crop((left, top, left + width, top + height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 50": lambda image: compressed(image, 50),
    "JPEG, quality 10": lambda image: compressed(image, 10),
    "half the size": lambda image: smaller(image, 2),
    "a quarter of the size": lambda image: smaller(image, 4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "centre square": lambda image: image.crop(((image.width - min(image.size)) // 2,
                                               (image.height - min(image.size)) // 2,
                                               (image.width + min(image.size)) // 2,
                                               (image.height + min(image.size)) // 2)),
    **{f"crop, {low:g} to {high:g} of a side": partial(crop, low=low, high=high)
       for low, high in ((0.95, 1.0), (0.9, 0.95), (0.8, 0.9), (0.7, 0.8))},
}


@click.command()
@click.option("--data", required=True, help="Folder of photographs of different scenes.")
@click.option("--image-size", default=224, show_default=True)
def main(data: str, image_size: int) -> None:
    """Prints the share of copies that is found by kind, the false pairs, and CPU times."""
    console, side = Console(), stored_size(image_size)
    with tempfile.TemporaryDirectory() as folder:
        cache = load_cached(photo_set(Path(data), Path(folder)), image_size, Path(folder))
        photos = [photo for split in ("train", "val", "test") for photo in cache.pixels(split)]
        begin = time.process_time()
        scenes = prints(photos)
        console.print(f"{len(photos)} photographs: {1000 * (time.process_time() - begin) / len(photos):.2f} ms of CPU "
                      "time each to hash")
        even, odd = (Prints(scenes.names[part], scenes.pixels[part], scenes.codes[part])
                     for part in (slice(0, None, 2), slice(1, None, 2)))
        console.print(f"pairs of different scenes taken for near-duplicates, of {len(even.names) * len(odd.names):,}: "
                      f"{near_duplicates(even, odd) or 'none'}")
        table = Table("copies", "found", "taken for another scene")
        for name, copy in COPIES.items():
            found = near_duplicates(scenes, prints([
                scaled_pixels(np.asarray(copy(Image.fromarray(photo)).convert("RGB")), side) for photo in photos]))
            right = sum(near.name == other for other, near in found.items())
            table.add_row(name, f"{right} of {len(photos)}", str(len(found) - right))
        console.print(table)
    draws = np.random.default_rng(0)
    many, few = (draws.integers(1, 2**63, (count, VIEWS), np.uint64) for count in (10_000, 2_000))
    begin, start = time.process_time(), time.perf_counter()
    for views, whole in ((many, few), (few, many)):
        list(duplicates._close(views, whole[:, 0]))
    console.print(f"10,000 × 2,000 photographs: {time.process_time() - begin:.1f} s of CPU time, "
                  f"{time.perf_counter() - start:.1f} s")


def prints(photos: Sequence[Pixels]) -> Prints:
    """Hashes of stored photographs, called by their numbers."""
    names = [str(number) for number in range(len(photos))]
    return Prints(names, list(photos), duplicates._compute(photos, no_progress))


if __name__ == "__main__":
    main()
