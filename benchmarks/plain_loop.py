"""Is our training as good as a plain correct loop? The same photographs, weights, steps and learning rate; MSE alone.

The loop below is what a competent person writes first: torchvision's transforms on PIL images, the encoder in eval
mode, Adam, no caches, no standardisation. It shares nothing with the project but the list of files.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import numpy as np
import torch
import torchvision  # type: ignore[import-untyped]
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torchvision.transforms import v2  # type: ignore[import-untyped]

from inversion.config.run_config import parse_config
from inversion.data.splits import PhotoSet
from inversion.runs.prepare import make_trainer, prepare, score_test_set

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
BATCH = 4


@click.command()
@click.option("--data", required=True, help="Folder of photographs.")
@click.option("--weights", required=True, help="VGG16 state dict in torchvision's naming.")
@click.option("--epochs", default=9, show_default=True)
@click.option("--lr", default=1e-4, show_default=True)
@click.option("--seeds", default=3, show_default=True)
def main(data: str, weights: str, epochs: int, lr: float, seeds: int) -> None:
    """Prints the mean test PSNR of both for each seed, and the difference of the means."""
    console = Console()
    rows = []
    for seed in range(seeds):
        config = parse_config({
            "encoder": "vgg16:block1", "decoder": "transposed_conv", "data": data, "weights": weights, "epochs": epochs,
            "lr": lr, "seed": seed, "mse_weight": 1, "lpips_weight": 0, "lpips_weights": "off", "patience": epochs,
        })
        prepared = prepare(config)
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(prepared, Path(folder))
            trainer.fit()
        ours = score_test_set(prepared, trainer).mean("psnr")
        plain = plain_loop(prepared.plan.photos, weights, epochs, lr, seed)
        rows.append((plain, ours))
        console.print(f"seed {seed}: plain {plain:.2f} dB, ours {ours:.2f} dB")
    means = np.mean(rows, axis=0)
    console.print(f"mean: plain {means[0]:.2f} dB, ours {means[1]:.2f} dB, difference {means[1] - means[0]:+.2f} dB")


def plain_loop(photos: PhotoSet, weights: str, epochs: int, lr: float, seed: int) -> float:
    """Mean test PSNR after the last epoch."""
    torch.manual_seed(seed)
    encoder = torchvision.models.vgg16().features[:5].eval().requires_grad_(False)
    state = torch.load(weights, weights_only=True)
    encoder.load_state_dict({name: state[f"features.{name}"] for name in encoder.state_dict()})
    decoder = nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
                            nn.Conv2d(32, 3, 3, padding=1), nn.Sigmoid())
    optimizer = torch.optim.Adam(decoder.parameters(), lr=lr)
    crop = v2.Compose([v2.Resize(256), v2.RandomCrop(224), v2.RandomHorizontalFlip(), v2.PILToTensor()])
    train = [Image.open(photo.path).convert("RGB") for photo in photos.splits["train"]]
    for _ in range(epochs):
        order = torch.randperm(len(train)).tolist()
        for start in range(0, len(order), BATCH):
            images = torch.stack([crop(train[index]) for index in order[start:start + BATCH]]) / 255
            loss = (decoder(encoder((images - MEAN) / STD)) - images).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return test_psnr(encoder, decoder.eval(), [photo.path for photo in photos.splits["test"]])


@torch.no_grad()
def test_psnr(encoder: nn.Module, decoder: nn.Module, paths: list[Path]) -> float:
    """PSNR of each centre crop, then the mean."""
    centre = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    values = []
    for path in paths:
        image: Tensor = centre(Image.open(path).convert("RGB"))[None] / 255
        error = (decoder(encoder((image - MEAN) / STD)) - image).square().mean()
        values.append(-10 * torch.log10(error).item())
    return float(np.mean(values))


if __name__ == "__main__":
    main()
