"""What does each decoder reach after the same epochs, and what does a step cost, beside transposed_conv?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from inversion.config.run_config import parse_config
from inversion.models.decoders import decoders
from inversion.runs.prepare import make_trainer, prepare, score_test_set

REFERENCE = "transposed_conv"


@click.command()
@click.option("--data", required=True, help="Folder of photographs.")
@click.option("--encoder", default="vgg16:block1", show_default=True)
@click.option("--weights", default="random", show_default=True)
@click.option("--epochs", default=4, show_default=True)
@click.option("--image-size", default=224, show_default=True)
@click.option("--only", multiple=True, help="Only these decoders, beside transposed_conv.")
def main(data: str, encoder: str, weights: str, epochs: int, image_size: int, only: tuple[str, ...]) -> None:
    """Trains every decoder with MSE alone and prints test PSNR and time, and the ratio to transposed_conv."""
    console = Console()
    table = Table("decoder", "parameters", "test PSNR", "difference", "ms a step", "ratio",
                  title=f"{encoder}, {weights} weights, {epochs} epochs", title_justify="left")
    reference: tuple[float, float] | None = None
    for name in [REFERENCE, *(other for other in (only or decoders.names()) if other != REFERENCE)]:
        prepared = prepare(parse_config({
            "encoder": encoder, "decoder": name, "data": data, "weights": weights, "epochs": epochs,
            "image_size": image_size, "lpips_weights": "off", "patience": epochs,
        }))
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(prepared, Path(folder))
            trainer.fit()
        psnr = score_test_set(prepared, trainer).mean("psnr")
        steps = trainer.state.epoch * len(trainer.data.batches)
        step_ms = 1000 * (trainer.state.train_seconds - trainer.state.validation_seconds) / steps
        reference = reference or (psnr, step_ms)
        count = sum(parameter.numel() for parameter in trainer.model.trainable())
        table.add_row(name, f"{count:,}", f"{psnr:.2f}", f"{psnr - reference[0]:+.2f}", f"{step_ms:.0f}",
                      f"{step_ms / reference[1]:.2f}")
        console.print(f"{name}: {psnr:.2f} dB, {step_ms:.0f} ms a step")
    console.print(table)


if __name__ == "__main__":
    main()
