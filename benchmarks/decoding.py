"""Decoding photographs for the cache: one thread, a thread for each core, and a process for each core.

Usage: ``python -m benchmarks.decoding FOLDER [FOLDER]``. Prints milliseconds an image, in turns, medians of three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import timed
from inversion.data.decode import decode_photo
from inversion.parallel import in_order, usable_cores

SHORTER_SIDE = 256
CORES = usable_cores()
decode = partial(decode_photo, shorter_side=SHORTER_SIDE)


def milliseconds(results: Callable[[Sequence[Path]], Iterable[object]], files: Sequence[Path]) -> float:
    """An image's share of decoding all files."""
    return 1000 * timed(lambda: list(results(files)), 1, 0) / len(files)


def by_processes(files: Sequence[Path]) -> float:
    """The same by processes that have been started before."""
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(decode, files[:CORES]))
        return milliseconds(lambda some: pool.map(decode, some, chunksize=4), files)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(folders: tuple[Path, ...]) -> None:
    """Prints a row for each folder of photographs."""
    table = Table("photographs", "one thread", f"{CORES} threads", f"{CORES} processes", "one thread / threads")
    for folder in folders:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        rounds = [(milliseconds(partial(in_order, decode, workers=1), files),
                   milliseconds(partial(in_order, decode, workers=CORES), files), by_processes(files))
                  for _ in range(3)]
        one, threads, processes = (median(times) for times in zip(*rounds, strict=True))
        table.add_row(f"{len(files)} in {folder}", f"{one:.2f} ms", f"{threads:.2f} ms", f"{processes:.2f} ms",
                      f"{one / threads:.2f}×")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
