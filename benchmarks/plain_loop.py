"""Is our training as good as a plain correct loop? The same photographs, weights, steps, learning rate and loss.

The loop below is what a competent person writes first: torchvision's transforms on PIL images, the encoder in eval
mode, the ``lpips`` package, Adam, no caches, no standardisation. It shares nothing with the project but the list of
files and, with ``--same-start``, the initial weights of the decoder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import lpips  # type: ignore[import-untyped]
import numpy as np
import torch
import torchvision  # type: ignore[import-untyped]
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.transforms import v2  # type: ignore[import-untyped]

from inversion.config.run_config import parse_config
from inversion.data.content import Place, opened
from inversion.data.splits import PhotoSet
from inversion.runs.prepare import make_trainer, prepare, score_test_set
from inversion.training.callbacks import Callback

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
BATCH = 4


@dataclass(frozen=True)
class Setting:
    """What both sides are given."""

    data: str
    weights: str
    lpips_weights: str
    protocol: str
    image_size: int
    epochs: Sequence[int]
    lr: float
    same_start: bool


@click.command()
@click.option("--data", required=True, help="Folder of photographs.")
@click.option("--weights", required=True, help="VGG16 state dict in torchvision's naming.")
@click.option("--lpips-weights", default="off", show_default=True, help="AlexNet state dict likewise, or off: MSE.")
@click.option("--protocol", type=click.Choice(["image", "published"]), default="image", show_default=True)
@click.option("--image-size", default=224, show_default=True)
@click.option("--epochs", default="9", show_default=True, help="After how many epochs to compare, as 6,12.")
@click.option("--lr", default=1e-4, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--same-start/--own-start", default=True, show_default=True,
              help="Both begin with the same weights of the decoder, or each with its own.")
def main(data: str, weights: str, lpips_weights: str, protocol: str, image_size: int, epochs: str, lr: float,
         seeds: int, same_start: bool) -> None:
    """Prints the mean test PSNR of both for each seed, and the difference of the means with its standard error."""
    console = Console()
    setting = Setting(data, weights, lpips_weights, protocol, image_size, sorted(map(int, epochs.split(","))), lr,
                      same_start)
    pairs = []
    for seed in range(seeds):
        ours, photos, start = our_training(setting, seed)
        plain = plain_loop(photos, setting, seed, start if same_start else None)
        pairs.append((plain, ours))
        console.print(f"seed {seed}: " + ", ".join(
            f"after {epoch} epochs plain {one:.2f} dB, ours {other:.2f} dB"
            for epoch, one, other in zip(setting.epochs, plain, ours, strict=True)))
    console.print(summary(np.array(pairs), setting))


def summary(pairs: Any, setting: Setting) -> Table:
    """The table of the means; ``pairs`` has the axes seed, side and epoch."""
    table = Table("epochs", "plain", "SD", "ours", "SD", "difference", "standard error", title_justify="left",
                  title=f"{setting.protocol}, {'MSE' if setting.lpips_weights == 'off' else 'MSE + LPIPS'}, "
                        f"{setting.image_size} px, lr {setting.lr:g}, {len(pairs)} seeds")
    deviations = pairs.std(axis=0, ddof=1)
    for index, epoch in enumerate(setting.epochs):
        plain, ours = pairs[:, 0, index], pairs[:, 1, index]
        error = ((ours - plain).std(ddof=1) if setting.same_start
                 else np.hypot(*deviations[:, index])) / np.sqrt(len(pairs))
        table.add_row(str(epoch), f"{plain.mean():.2f}", f"{deviations[0, index]:.2f}", f"{ours.mean():.2f}",
                      f"{deviations[1, index]:.2f}", f"{(ours - plain).mean():+.2f}", f"{error:.2f}")
    return table


class ScoreAfter(Callback):
    """Scores the test images after some epochs, with the weights of the epoch and not the best ones so far."""

    def __init__(self, epochs: Sequence[int]) -> None:
        self.epochs = epochs
        self.scores: list[float] = []
        self.score: Any = None

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch in self.epochs:
            self.scores.append(self.score())


def our_training(setting: Setting, seed: int) -> tuple[list[float], PhotoSet, list[Tensor]]:
    """Mean test PSNR after each of the epochs; the photographs, and the decoder's initial weights."""
    last = setting.epochs[-1]
    loss = {"mse_weight": 1, "lpips_weight": 0} if setting.lpips_weights == "off" else {}
    prepared = prepare(parse_config({
        "encoder": "vgg16:block1", "decoder": "transposed_conv", "data": setting.data, "weights": setting.weights,
        "lpips_weights": setting.lpips_weights, "protocol": setting.protocol, "image_size": setting.image_size,
        "epochs": last, "patience": last, "lr": setting.lr, "seed": seed, **loss,
    }))
    after = ScoreAfter(setting.epochs)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(prepared, Path(folder), [after])
        after.score = lambda: score_test_set(prepared, trainer).mean("psnr")
        start = [parameter.detach().clone() for parameter in trainer.model.trainable()]
        trainer.fit()
    return after.scores, prepared.plan.photos, start


def plain_loop(photos: PhotoSet, setting: Setting, seed: int, start: Sequence[Tensor] | None) -> list[float]:
    """Mean test PSNR after each of the epochs; ``start`` are initial weights of the decoder."""
    torch.manual_seed(seed)
    encoder = torchvision.models.vgg16().features[:5].eval().requires_grad_(False)
    state = load(setting.weights)
    encoder.load_state_dict({name: state[f"features.{name}"] for name in encoder.state_dict()})
    decoder = nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
                            nn.Conv2d(32, 3, 3, padding=1), nn.Sigmoid())
    if start is not None:
        with torch.no_grad():
            for parameter, value in zip(decoder.parameters(), start, strict=True):
                parameter.copy_(value)
    perceptual = None if setting.lpips_weights == "off" else load_lpips(setting.lpips_weights)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=setting.lr)
    size = setting.image_size
    crop = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.RandomCrop(size), v2.RandomHorizontalFlip(),
                       v2.PILToTensor()])
    train = [Image.open(opened(photo.path)).convert("RGB") for photo in photos.splits["train"]]
    scores = []
    for epoch in range(1, setting.epochs[-1] + 1):
        decoder.train()
        order = torch.randperm(len(train)).tolist()
        for first in range(0, len(order), BATCH):
            images = torch.stack([crop(train[index]) for index in order[first:first + BATCH]]) / 255
            normalised = (images - MEAN) / STD
            target = normalised if setting.protocol == "published" else images
            output = decoder(encoder(normalised))
            loss = (output - target).square().mean()
            if perceptual is not None:
                loss = 0.5 * loss + 0.5 * perceptual(output, target, normalize=True).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if epoch in setting.epochs:
            paths = [photo.path for photo in photos.splits["test"]]
            scores.append(test_psnr(encoder, decoder.eval(), paths, setting))
    return scores


@torch.no_grad()
def test_psnr(encoder: nn.Module, decoder: nn.Module, paths: list[Place], setting: Setting) -> float:
    """PSNR of each centre crop, then the mean."""
    size = setting.image_size
    centre = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size), v2.PILToTensor()])
    values = []
    for path in paths:
        image: Tensor = centre(Image.open(opened(path)).convert("RGB"))[None] / 255
        normalised = (image - MEAN) / STD
        target = normalised.clamp(0, 1) if setting.protocol == "published" else image
        error = (decoder(encoder(normalised)) - target).square().mean()
        values.append(-10 * torch.log10(error).item())
    return float(np.mean(values))


def load_lpips(path: str) -> nn.Module:
    """The package's LPIPS with AlexNet's weights from a file."""
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = load(path)
    own = network.net.state_dict()
    network.net.load_state_dict({name: state[f"features.{name.partition('.')[2]}"] for name in own})
    network.requires_grad_(False).eval()
    frozen: nn.Module = network
    return frozen


def load(path: str) -> dict[str, Tensor]:
    """A state dict of tensors."""
    state: dict[str, Tensor] = (load_file(path) if path.endswith(".safetensors")
                                else torch.load(path, weights_only=True))
    return state


if __name__ == "__main__":
    main()
