"""How preparing a data set grows with its images: time, memory and disk, for files in a folder and in shards.

Usage: ``python -m benchmarks.cache_growth --images 2000 --images 8000 --images 32000``. Each row is measured in a
process of its own, on generated images: the first preparation, and a later start that finds the cache. Times are CPU
seconds, since a busy machine changes them least.
"""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from inversion.data.cache import PhotoCache, load_cached
from inversion.data.datasets import cache_folder, find_photo_set
from inversion.data.duplicates import across_splits

SIDE = 40
"""Sides of the images. Crops of 32 have a shorter side of 37: an image is 4 KB in the cache."""

CROP = 32
PER_SHARD = 1000
COLUMNS = ("find", "prepare", "load again", "near-duplicates", "memory", "memory again", "index", "cache")
"""Seconds, seconds, seconds, seconds, MB, MB, MB, MB."""


def jpeg(number: int) -> bytes:
    """A smooth picture, different for every number."""
    values = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_folder(folder: Path, count: int) -> str:
    """Writes a folder with the layout of ImageNet, ``train/CLASS/NUMBER.JPEG``; nine of ten images are in train."""
    for number in range(count):
        path = folder / ("val" if number % 10 == 0 else "train") / f"n{number % 100:08}" / f"{number:08}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number))
    return str(folder)


def write_shards(folder: Path, count: int) -> str:
    """Writes the same images into shards of ``PER_SHARD``."""
    folder.mkdir()
    numbers = {"train": [number for number in range(count) if number % 10], "val": list(range(0, count, 10))}
    for split, mine in numbers.items():
        for shard, first in enumerate(range(0, len(mine), PER_SHARD)):
            with tarfile.open(folder / f"{split}-{shard:06}.tar", "w") as tar:
                for number in mine[first:first + PER_SHARD]:
                    content = jpeg(number)
                    info = tarfile.TarInfo(f"{number:08}.jpg")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return str(folder / "*.tar")


WRITERS: dict[str, Callable[[Path, int], str]] = {"folder": write_folder, "shards": write_shards}


def peak_mb() -> float:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def prepare(data: str, data_dir: Path, duplicates: bool) -> dict[str, float]:
    """Prepares a set in this process; seconds of each part, and the memory that it added."""
    before, began = peak_mb(), time.process_time()
    photos = find_photo_set(data, data_dir)
    found = time.process_time()
    cache: PhotoCache = load_cached(photos, CROP, cache_folder(data_dir))
    loaded = time.process_time()
    memory = peak_mb() - before
    if duplicates:
        across_splits(cache)
    return {"find": found - began, "load": loaded - found, "near-duplicates": time.process_time() - loaded,
            "memory": memory}


def in_a_process(data: str, data_dir: Path, duplicates: bool) -> dict[str, float]:
    """``prepare`` in a new process."""
    code = (f"import json; from pathlib import Path; from benchmarks.cache_growth import prepare; "
            f"print(json.dumps(prepare({data!r}, Path({str(data_dir)!r}), {duplicates})))")
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(kind: str, count: int, duplicates: bool) -> dict[str, float]:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as scratch:
        data = WRITERS[kind](Path(scratch) / "set", count)
        folder = Path(scratch) / "data"
        first, again = in_a_process(data, folder, duplicates), in_a_process(data, folder, False)
        sizes = {suffix: sum(path.stat().st_size for path in folder.rglob(f"*{suffix}")) / 2**20
                 for suffix in (".json", ".arrow")}
    values = (first["find"], first["load"], again["find"] + again["load"], first["near-duplicates"], first["memory"],
              again["memory"], sizes[".json"], sizes[".arrow"])
    return dict(zip(COLUMNS, values, strict=True))


@click.command()
@click.option("--images", "counts", multiple=True, type=int, default=(2000, 8000, 32000), show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(WRITERS)), default=tuple(WRITERS))
@click.option("--duplicates/--no-duplicates", default=True, help="Whether to look for near-duplicates.")
def main(counts: tuple[int, ...], kinds: tuple[str, ...], duplicates: bool) -> None:
    """Measures and prints the table."""
    for kind in kinds:
        table = Table(title=f"{kind}: s, s, s, s, MB, MB, MB, MB")
        for column in ("images", *COLUMNS):
            table.add_column(column, justify="right")
        for count in counts:
            row = measure(kind, count, duplicates)
            table.add_row(f"{count:,}", *(f"{row[column]:.1f}" for column in COLUMNS))
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
