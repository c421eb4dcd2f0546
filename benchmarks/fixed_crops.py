"""Do fixed crops cost quality, and what do they save? The same runs with crops drawn anew in every epoch."""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path

import click
import numpy as np
from rich.console import Console

from inversion.config.run_config import parse_config
from inversion.runs.prepare import make_trainer, prepare, score_test_set


@click.command()
@click.option("--data", required=True, help="Folder of photographs.")
@click.option("--encoder", default="vgg16:block1", show_default=True)
@click.option("--weights", required=True, help="Weights of the encoder: a file or random.")
@click.option("--lpips-weights", default="off", show_default=True, help="AlexNet trunk of LPIPS: a file or off.")
@click.option("--decoders", default="transposed_conv,wavelet", show_default=True)
@click.option("--crops", default="random,fixed:2,fixed:8", show_default=True)
@click.option("--image-size", default=224, show_default=True)
@click.option("--epochs", default=30, show_default=True)
@click.option("--lr", default=1e-3, show_default=True)
@click.option("--seeds", default=2, show_default=True)
def main(data: str, encoder: str, weights: str, lpips_weights: str, decoders: str, crops: str, image_size: int,
         epochs: int, lr: float, seeds: int) -> None:
    """Prints the mean test PSNR and the seconds of each run, and the differences from the first value of --crops."""
    console = Console()
    values = crops.split(",")
    with tempfile.TemporaryDirectory() as folder:
        scores: dict[tuple[str, str], list[float]] = {}
        seconds: dict[tuple[str, str], list[float]] = {}
        for seed, decoder, value in itertools.product(range(seeds), decoders.split(","), values):
            started = time.perf_counter()
            prepared = prepare(parse_config({
                "encoder": encoder, "decoder": decoder, "data": data, "data_dir": folder, "weights": weights,
                "lpips_weights": lpips_weights, "lpips_weight": 0 if lpips_weights == "off" else 0.5, "crops": value,
                "image_size": image_size, "epochs": epochs, "patience": epochs, "lr": lr, "schedule": "cosine",
                "seed": seed,
            }))
            trainer = make_trainer(prepared, Path(folder) / "run")
            trainer.fit()
            seconds.setdefault((decoder, value), []).append(time.perf_counter() - started)
            scores.setdefault((decoder, value), []).append(score_test_set(prepared, trainer).mean("psnr"))
            console.print(f"{decoder} {value} seed {seed}: {scores[decoder, value][-1]:.2f} dB, "
                          f"{seconds[decoder, value][-1]:.0f} s")
        for decoder, value in itertools.product(decoders.split(","), values[1:]):
            differences = np.array(scores[decoder, value]) - scores[decoder, values[0]]
            ratio = np.median(seconds[decoder, values[0]]) / np.median(seconds[decoder, value])
            console.print(f"{decoder}: {value} {differences.mean():+.2f} dB beside {values[0]} (by seed: "
                          f"{', '.join(f'{difference:+.2f}' for difference in differences)}), {ratio:.2f}× as fast")


if __name__ == "__main__":
    main()
