"""How cost grows: with the number of images, the image size, the tokens, and the configurations of a study.

Usage: ``python -m benchmarks.growth --folder FOLDER [--picture growth.png]``; the folder is one that ``bench --folder``
has made. Prints a table with the ratio of each row to the one before, and draws what it measured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator
from rich.console import Console
from rich.table import Table

from benchmarks import plain
from benchmarks.bench import write_alexnet
from benchmarks.measuring import timed
from benchmarks.prepared import prepare_run, train_an_epoch, trainer_of
from benchmarks.queue_growth import measure as measure_queue
from inversion.models import FeatureShape
from inversion.models.decoders._options import AttentionOptions
from inversion.models.decoders.attention import AttentionDecoder

Points = dict[str, list[tuple[float, float]]]
"""Lines of a drawing: x and seconds or milliseconds."""


ONE = {"encoder": "vgg16:block1", "epochs": 1, "val_limit": 1, "test_limit": 1}


def images(folder: Path) -> Points:
    """Seconds of decoding, and of an epoch of training, against the number of photographs."""
    lines: Points = {"decoding, once": [], "an epoch of training": []}
    for count in (8, 16, 32, 64):
        with tempfile.TemporaryDirectory() as scratch:
            began = time.perf_counter()
            prepared = prepare_run(folder, data_dir=scratch, train_limit=count, **ONE)
            lines["decoding, once"].append((count, time.perf_counter() - began))
            trainer = trainer_of(prepared, f"{scratch}/run")
            lines["an epoch of training"].append((count, timed(partial(train_an_epoch, trainer), 2, 1)))
    return lines


def sizes(folder: Path) -> Points:
    """Milliseconds an image of a training step, against the pixels of an image."""
    lines: Points = {"training step, an image": []}
    for size in (64, 128, 224, 320, 448):
        with tempfile.TemporaryDirectory() as scratch:
            trainer = trainer_of(prepare_run(folder, train_limit=4, image_size=size, **ONE), scratch)
            lines["training step, an image"].append((size**2, 250 * timed(partial(train_an_epoch, trainer), 5)))
    return lines


def tokens(_: Path) -> Points:
    """Milliseconds an image of the attention decoder, forward and backward, against its tokens."""
    lines: Points = {"ours": [], "published design": []}
    for side in (14, 28, 56, 112):
        features = torch.rand(2, 64, side, side)
        ours = AttentionDecoder(FeatureShape(64, side, side), 224, AttentionOptions())
        lines["ours"].append((side**2, 500 * timed(lambda: ours(features).mean().backward(), 3)))  # noqa: B023
        if side < 112:  # full attention of 12,544 tokens does not fit into 24 GiB
            theirs = plain.AttentionDecoder(64, side)
            lines["published design"].append(
                (side**2, 500 * timed(lambda: theirs(features).mean().backward(), 1, 0)))  # noqa: B023
    return lines


def configurations(_: Path) -> Points:
    """Milliseconds of what a study does with its queue, against the configurations in it."""
    lines: Points = {}
    for count in (44, 500, 2000):
        with tempfile.TemporaryDirectory() as scratch:
            for name, taken in measure_queue(f"sqlite:///{scratch}/queue.db", count).items():
                lines.setdefault(name, []).append((count, taken))
    return lines


DRAWINGS: dict[str, tuple[Callable[[Path], Points], str, str]] = {
    "images": (images, "photographs", "s"), "image size": (sizes, "pixels of an image", "ms"),
    "tokens": (tokens, "tokens", "ms an image"), "configurations": (configurations, "configurations", "ms")}


def rows(lines: Points, unit: str) -> Iterator[tuple[str, str, str, str]]:
    """Of each line its points, with their ratios to the one before in x and in cost."""
    for name, points in lines.items():
        before = points[0]
        for x, value in points:
            yield name, f"{x:,.0f}", f"{value:.3g} {unit}", f"{x / before[0]:.1f}× → {value / before[1]:.2f}×"
            before = x, value


def draw(axis: Axes, lines: Points) -> None:
    """Lines in logarithmic axes, with plain numbers: below at what was measured, beside at one, two and five."""
    for name, points in lines.items():
        axis.loglog(*zip(*points, strict=True), marker="o", label=name)
    places = sorted({x for points in lines.values() for x, _ in points})
    axis.set_xticks(places, [f"{x:,.0f}" for x in places], fontsize=8)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=7)
    axis.grid(alpha=0.3)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--picture", type=click.Path(path_type=Path), default=Path("growth.png"), show_default=True)
@click.option("--only", multiple=True, type=click.Choice(list(DRAWINGS)))
def main(folder: Path, picture: Path, only: tuple[str, ...]) -> None:
    """Measures, prints and draws."""
    torch.set_num_threads(2)
    write_alexnet(folder)
    chosen = {name: drawing for name, drawing in DRAWINGS.items() if not only or name in only}
    figure, axes = plt.subplots(1, len(chosen), figsize=(4.2 * len(chosen), 3.6), squeeze=False)
    for axis, (title, (measured, x_name, unit)) in zip(axes[0], chosen.items(), strict=True):
        lines = measured(folder)
        table = Table("what", x_name, "cost", "growth", title=title, title_justify="left")
        for row in rows(lines, unit):
            table.add_row(*row)
        Console(width=120).print(table)
        draw(axis, lines)
        axis.set(title=title, xlabel=x_name, ylabel=unit)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
