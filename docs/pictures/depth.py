"""Makes docs/pictures/depth.png: the bundled test photographs, and what decoders rebuild from ever deeper layers."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from inversion.config.run_config import parse_config
from inversion.images import to_uint8
from inversion.runs.prepare import crops_of_test_set, make_trainer, prepare, score_test_set

LAYERS = ("vgg16:block1", "resnet34:layer1", "resnet34:layer2", "vgg16:block4")
CAPTION = 18


@click.command()
@click.option("--epochs", default=16, show_default=True)
@click.option("--decoder", default="wavelet", show_default=True)
def main(epochs: int, decoder: str) -> None:
    """Trains a decoder for each layer on the sample photographs, with random encoder weights, and pastes the rows."""
    console = Console()
    columns, captions = [], []
    for layer in LAYERS:
        prepared = prepare(parse_config({
            "encoder": layer, "decoder": decoder, "data": "sample", "weights": "random", "lpips_weights": "off",
            "epochs": epochs, "lr": 1e-3,
        }))
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(prepared, Path(folder))
            trainer.fit()
        psnr = score_test_set(prepared, trainer).mean("psnr")
        pictures = trainer.evaluator.reconstruct(crops_of_test_set(prepared), prepared.photos.names("test"))
        if not columns:
            columns.append(np.concatenate([to_uint8(picture.original) for picture in pictures]))
            captions.append("original")
        columns.append(np.concatenate([to_uint8(picture.reconstruction) for picture in pictures]))
        captions.append(f"{layer}, {psnr:.1f} dB")
        console.print(captions[-1])
    image = Image.new("RGB", (sum(c.shape[1] for c in columns), columns[0].shape[0] + CAPTION), "white")
    draw = ImageDraw.Draw(image)
    left = 0
    for column, caption in zip(columns, captions, strict=True):
        image.paste(Image.fromarray(column), (left, CAPTION))
        draw.text((left + 4, 2), caption, fill="black", font=ImageFont.load_default(12))
        left += column.shape[1]
    image.save(Path(__file__).with_name("depth.png"), optimize=True)


if __name__ == "__main__":
    main()
