"""Makes the pictures of docs/results from the reports of its studies and the models of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from PIL import Image

import inversion as inv
from inversion.api.runs import Reconstructed

HERE = Path(__file__).parent
BRIGHTER = 8
"""Differences are shown so many times as bright."""

ZOOM = 64
"""Edge of the enlarged part of a photograph, in pixels."""


@click.command()
@click.option("--depth", type=click.Path(exists=True, path_type=Path), required=True, metavar="FOLDER",
              help="The report of the study of layers and decoders.")
@click.option("--rate", type=click.Path(exists=True, path_type=Path), metavar="FOLDER",
              help="The report of the study of rates.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, metavar="FOLDER",
              help="The photographs, of which test/ is shown.")
@click.option("--tracking-uri", metavar="URI", help="Where the runs are.")
@click.option("--photo", "photos", multiple=True, metavar="NAME", default=("253027.jpg", "126007.jpg", "210088.jpg"),
              show_default=True, help="Test photographs of the strip of layers; the first is that of the decoders.")
def main(depth: Path, rate: Path | None, data: Path, tracking_uri: str | None, photos: Sequence[str]) -> None:
    """Writes depth.jpg, decoders.jpg, layers.png and, with --rate, rate.png beside this file."""
    board = pd.read_csv(depth / "tables" / "leaderboard.csv").set_index("configuration")
    floors = pd.read_csv(depth / "tables" / "floors.csv").sort_values("features")
    shown = [str(data / "test" / name) for name in photos]
    draw_depth(floors, board, shown, tracking_uri)
    draw_decoders(board[board["encoder"] == floors["features"].iloc[0]], shown[0], tracking_uri)
    draw_layers(floors, board)
    if rate is not None:
        draw_rate(pd.read_csv(rate / "tables" / "rates.csv"))


def reconstruct(row: pd.Series, photos: Sequence[str], tracking_uri: str | None) -> list[Reconstructed]:
    """Photographs through the first run of a row of a leaderboard."""
    return inv.find(str(row["runs"]).split()[0].strip(","), tracking_uri=tracking_uri).reconstruct(photos)


def draw_depth(floors: pd.DataFrame, board: pd.DataFrame, photos: Sequence[str], tracking_uri: str | None) -> None:
    """Each photograph beside its reconstructions from every layer, by the layer's best decoder."""
    columns: list[list[Image.Image]] = []
    titles = ["original"]
    for features, best in zip(floors["features"], floors["best"], strict=True):
        row = board.loc[best]
        found = reconstruct(row, photos, tracking_uri)
        columns = columns or [[item.original for item in found]]
        columns.append([item.reconstruction for item in found])
        titles.append(f"{features.removeprefix('vgg16:')}, {row['psnr']:.1f} dB\n{row['decoder']}")
    figure, axes = plt.subplots(len(photos), len(columns), squeeze=False,
                                figsize=(1.9 * len(columns), 1.9 * len(photos) + 0.25), layout="constrained")
    for column, (pictures, title) in enumerate(zip(columns, titles, strict=True)):
        for row, picture in enumerate(pictures):
            show(axes[row][column], picture)
        axes[0][column].set_title(title, fontsize=10)
    save(figure, "depth.jpg")


def draw_decoders(board: pd.DataFrame, photo: str, tracking_uri: str | None) -> None:
    """One photograph by every decoder of a layer, a part of it enlarged, and the differences from the original."""
    board = board.sort_values("psnr", ascending=False)
    found = {name: reconstruct(row, [photo], tracking_uri)[0] for name, row in board.iterrows()}
    original = next(iter(found.values())).original
    figure, axes = plt.subplots(3, len(found) + 1, figsize=(1.9 * (len(found) + 1), 6.0), layout="constrained")
    for column, (name, picture) in enumerate({"original": original, **{
            str(name): item.reconstruction for name, item in found.items()}}.items()):
        show(axes[0][column], picture)
        show(axes[1][column], enlarged(picture))
        difference = np.abs(np.asarray(picture, np.int16) - np.asarray(original, np.int16))
        show(axes[2][column], Image.fromarray(np.clip(BRIGHTER * difference, 0, 255).astype(np.uint8)))
        title = name if name == "original" else f"{board.loc[name, 'decoder']}, {found[name].scores.psnr:.1f} dB"
        axes[0][column].set_title(title, fontsize=9)
    for row, label in enumerate(("", f"{ZOOM}×{ZOOM} pixels", f"difference × {BRIGHTER}")):
        axes[row][0].set_ylabel(label, fontsize=10)
    save(figure, "decoders.jpg")


def draw_layers(floors: pd.DataFrame, board: pd.DataFrame) -> None:
    """PSNR of each decoder against the layer, between what needs no encoder and inversion by optimisation."""
    figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    names = [name.removeprefix("vgg16:") for name in floors["features"]]
    for decoder, rows in board.groupby("decoder"):
        scores = rows.groupby("encoder")["psnr"].max().reindex(floors["features"])
        axes.plot(names, scores, marker="o", label=str(decoder))
    axes.plot(names, floors["bicubic"], color="grey", linestyle="--", label="bicubic thumbnail")
    axes.plot(names, floors["mean_colour"], color="grey", linestyle=":", label="mean colour")
    for column in [name for name in floors if name.startswith("optimised_")]:
        axes.plot(names, floors[column], color="black", linestyle="-.", marker="^",
                  label=f"optimised, {column.removeprefix('optimised_')} steps")
    axes.set_ylabel("PSNR (dB), 50 test photographs")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, "layers.png")


def draw_rate(rates: pd.DataFrame) -> None:
    """PSNR against bits per pixel of quantised features, beside JPEG."""
    figure, axes = plt.subplots(figsize=(7.0, 4.2), layout="constrained")
    for encoder, rows in rates.assign(cut=rates["encoder"].str.replace(r"/bits=\d+", "", regex=True)).groupby("cut"):
        rows = rows.sort_values("rate")
        axes.plot(rows["rate"], rows["psnr"], marker="o", label=str(encoder))
    jpeg = rates.dropna(subset=["file_psnr"]).sort_values("rate")
    axes.plot(jpeg["rate"], jpeg["file_psnr"], color="grey", linestyle="--", label="JPEG, whole files")
    axes.set_xscale("log", base=2)
    axes.set_xlabel("bits per pixel")
    axes.set_ylabel("PSNR (dB), 50 test photographs")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, "rate.png")


def enlarged(picture: Image.Image) -> Image.Image:
    """The middle of a picture, each pixel as a square."""
    left, top = (picture.width - ZOOM) // 2, (picture.height - ZOOM) // 2
    part = picture.crop((left, top, left + ZOOM, top + ZOOM))
    return part.resize((picture.width, picture.height), Image.Resampling.NEAREST)


def show(axes: Axes, picture: Image.Image) -> None:
    """A picture without ticks and frame."""
    axes.imshow(np.asarray(picture))
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def save(figure: plt.Figure, name: str) -> None:
    """Writes a picture beside this file."""
    figure.savefig(HERE / name, dpi=110, pil_kwargs={"quality": 92} if name.endswith(".jpg") else {"optimize": True})
    plt.close(figure)
    click.echo(HERE / name)


if __name__ == "__main__":
    main()
