"""The plain reference: the published study as a competent person would write it by hand.

Image files opened, resized and cropped by a data set, a DataLoader with two workers, fp32 in PyTorch's default layout,
encoders cut at their layer, ``lpips`` called on both images, scikit-image's scores and a matplotlib figure for every
test image. It shares nothing with the project but the files that both read.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lpips  # type: ignore[import-untyped]
import matplotlib as mpl
import numpy as np
import timm
import torch
import torchvision  # type: ignore[import-untyped]
from matplotlib import pyplot as plt
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2  # type: ignore[import-untyped]

mpl.use("Agg")
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class Photographs(Dataset[Tensor]):
    """Photographs of a folder, decoded, resized and cropped each time they are asked for."""

    def __init__(self, folder: Path, train: bool, limit: int | None = None) -> None:
        self.paths = sorted(folder.iterdir())[:limit]
        crop = [v2.RandomCrop(224), v2.RandomHorizontalFlip()] if train else [v2.CenterCrop(224)]
        self.transform = v2.Compose([v2.Resize(256), *crop, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            pixels: Tensor = self.transform(image.convert("RGB"))
        return pixels


def loader(folder: Path, train: bool, batch: int = 4, limit: int | None = None) -> DataLoader[Tensor]:
    return DataLoader(Photographs(folder, train, limit), batch_size=batch, shuffle=train, num_workers=2)


class Tokens(nn.Module):
    """The first blocks of timm's ViT-Small, their patch tokens as a map."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        vit: Any = timm.create_model("vit_small_patch16_224", pretrained=False)
        vit.blocks = vit.blocks[:blocks]
        self.vit = vit

    def forward(self, images: Tensor) -> Tensor:
        vit: Any = self.vit
        tokens = vit.blocks(vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(images)))))
        result: Tensor = tokens[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
        return result


def make_encoder(name: str) -> nn.Module:
    """An encoder up to its layer, frozen; ``name`` as in the study."""
    encoder: nn.Module
    if name == "vgg16:block1":
        encoder = torchvision.models.vgg16().features[:5]
    elif name.startswith("resnet34:layer"):
        net = torchvision.models.resnet34()
        stages = [net.layer1, net.layer2, net.layer3, net.layer4][:int(name.removeprefix("resnet34:layer"))]
        encoder = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, *stages)
    elif name.startswith("vit_small:block"):
        encoder = Tokens(int(name.removeprefix("vit_small:block")))
    else:
        pvt: Any = timm.create_model("pvt_v2_b2", pretrained=False)
        encoder = nn.Sequential(pvt.patch_embed, pvt.stages[0])
    return encoder.eval().requires_grad_(False)


def make_decoder(channels: int, side: int, size: int = 224) -> nn.Sequential:
    """``transposed_conv``: stages of ConvTranspose2d → BatchNorm → ReLU, then Conv2d → sigmoid."""
    layers: list[nn.Module] = []
    while side < size:
        narrower = max(channels // 2, 32)
        layers += [nn.ConvTranspose2d(channels, narrower, 4, 2, 1), nn.BatchNorm2d(narrower), nn.ReLU(inplace=True)]
        channels, side = narrower, 2 * side
    return nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1), nn.Sigmoid())


class Attention(nn.Module):
    """Full attention of all tokens to all, by matmul and softmax."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                             for part in self.qkv(tokens).chunk(3, dim=-1))
        result: Tensor = self.out(matmul_attention(query, key, value).transpose(1, 2).flatten(2))
        return result


def matmul_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(q kᵀ / √d) v`` as it stands in the paper."""
    weights = (query @ key.transpose(-2, -1) / query.shape[-1]**0.5).softmax(dim=-1)
    result: Tensor = weights @ value
    return result


class AttentionDecoder(nn.Module):
    """The published design: 4 blocks with 8 heads over all tokens, then the transposed convolutions."""

    def __init__(self, channels: int, side: int, size: int = 224, depth: int = 4, heads: int = 8) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({
                "norm": nn.LayerNorm(channels), "attention": Attention(channels, heads),
                "norm2": nn.LayerNorm(channels),
                "mlp": nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)),
            }) for _ in range(depth))
        self.head = make_decoder(channels, side, size)

    def forward(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2).transpose(1, 2)
        for block in self.blocks:
            parts: Any = block
            tokens = tokens + parts["attention"](parts["norm"](tokens))
            tokens = tokens + parts["mlp"](parts["norm2"](tokens))
        result: Tensor = self.head(tokens.transpose(1, 2).unflatten(2, features.shape[-2:]))
        return result


class Plain:
    """A run by hand: model, loss, optimiser."""

    def __init__(self, encoder: str, alexnet: Path, decoder: nn.Module | None = None) -> None:
        self.encoder = make_encoder(encoder)
        with torch.no_grad():
            _, channels, side, _ = self.encoder(torch.zeros(1, 3, 224, 224)).shape
        self.decoder = decoder or make_decoder(channels, side)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            self.lpips = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).requires_grad_(False)
        state = torch.load(alexnet, weights_only=True)
        for name, tensor in self.lpips.net.state_dict().items():
            tensor.copy_(state[f"features.{name.partition('.')[2]}"])
        self.optimizer = torch.optim.Adam(self.decoder.parameters(), lr=1e-4)

    def reconstruct(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.encoder((images - MEAN) / STD)
        result: Tensor = self.decoder(features)
        return result

    def loss(self, images: Tensor) -> Tensor:
        made = self.reconstruct(images)
        perceptual = self.lpips(2 * made - 1, 2 * images - 1).mean()
        loss: Tensor = 0.5 * nn.functional.mse_loss(made, images) + 0.5 * perceptual
        return loss

    def step(self, images: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(images)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, folder: Path, limit: int | None = None) -> list[float]:
        """PSNR of each test photograph; SSIM, LPIPS and a figure on the way."""
        self.decoder.eval()
        values = []
        with tempfile.TemporaryDirectory() as pictures:
            for index, batch in enumerate(loader(folder, train=False, batch=1, limit=limit)):
                made = self.reconstruct(batch)
                one, other = (part[0].permute(1, 2, 0).numpy() for part in (batch, made))
                values.append(float(peak_signal_noise_ratio(one, other, data_range=1)))  # type: ignore[no-untyped-call]
                structural_similarity(one, other, channel_axis=2, data_range=1)  # type: ignore[no-untyped-call]
                self.lpips(2 * made - 1, 2 * batch - 1).item()
                _figure(one, other, Path(pictures) / f"{index}.png")
        return values


def _figure(one: np.ndarray, other: np.ndarray, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(12, 4))
    for axis, picture, title in zip(axes, (one, other, np.abs(one - other)), ("original", "made", "error"),
                                    strict=True):
        axis.imshow(picture.clip(0, 1))
        axis.set_title(title)
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def train(run: Plain, folder: Path, epochs: int, limits: Mapping[str, int]) -> Iterator[float]:
    """Epochs of training and validation on the first photographs of each split; yields the seconds of each."""
    for _ in range(epochs):
        began = time.perf_counter()
        run.decoder.train()
        for batch in loader(folder / "train", train=True, limit=limits["train"]):
            run.step(batch)
        run.decoder.eval()
        with torch.no_grad():
            losses = [run.loss(batch).item() for batch in loader(folder / "val", train=False, limit=limits["val"])]
        np.mean(losses)
        yield time.perf_counter() - began
