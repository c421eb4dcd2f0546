"""DISTS: similarity of structure and of texture in the features of VGG16.

Ding, Ma, Wang, Simoncelli, "Image Quality Assessment: Unifying Structure and Texture Similarity", IEEE TPAMI 44(5),
2022 (https://arxiv.org/abs/2004.07728). The weights of the 1,475 feature maps come with the package ``torchmetrics``.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.errors import WeightsError
from inversion.images import IMAGENET, normalise
from inversion.losses.vgg import VggStages

CHANNELS = (3, 64, 128, 256, 512, 512)
C1 = C2 = 1e-6


class Dists(nn.Module):
    """Distance ``(B,)`` of images ``(B, 3, H, W)`` in [0, 1] from targets, in [0, 1]; 0 for equal ones.

    At each of six levels (the image itself, and VGG16's stages with L2 pooling between them), 1 − Σ (α · l + β · s)
    with the similarity l of the means of each feature map and s of its structure over all places. The weights α and β
    sum to 1. The means are taken in float64.

    Raises:
        WeightsError: the package with the weights is not installed.
    """

    def __init__(self, stages: VggStages) -> None:
        super().__init__()
        self.stages = stages
        weights = torch.load(_weights_file(), map_location="cpu", weights_only=True)
        alpha, beta = (weights[name].detach().double().flatten() for name in ("alpha", "beta"))
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total, persistent=False)
        self.register_buffer("beta", beta / total, persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        levels, others = ([values, *self.stages(normalise(values, IMAGENET), l2_pool)] for values in (images, targets))
        means, structures = [], []
        for one, other in zip(levels, others, strict=True):
            mean, structure = _similarities(one.double().flatten(2), other.double().flatten(2))
            means.append(mean)
            structures.append(structure)
        alpha, beta = self.get_buffer("alpha"), self.get_buffer("beta")
        alike = (alpha * torch.cat(means, dim=1) + beta * torch.cat(structures, dim=1)).sum(dim=1)
        return (1 - alike).clamp_min(0)


def _similarities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity of the means and of the structures of feature maps ``(B, C, h·w)``: each ``(B, C)``, 1 if equal."""
    mean_x, mean_y = x.mean(2), y.mean(2)
    mean = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    structure = (2 * (x * y).mean(2) + C2) / (x.square().mean(2) + y.square().mean(2) + C2)
    return mean, structure


def l2_pool(values: Tensor) -> Tensor:
    """Halves a map: root of the mean square under a 3×3 Hann window of stride 2, in float32."""
    with torch.autocast(values.device.type, enabled=False):
        taps = torch.tensor([0.25, 0.5, 0.25], device=values.device)
        channels = values.shape[1]
        window = torch.outer(taps, taps).expand(channels, 1, 3, 3)
        squares = F.conv2d(values.float().square(), window, stride=2, padding=1, groups=channels)
        return (squares + 1e-12).sqrt()


def _weights_file() -> Path:
    """Found without importing the package, which takes seconds."""
    package = find_spec("torchmetrics")
    if package is not None:
        file = Path(str(package.origin)).parent / "functional" / "image" / "dists_models" / "weights.pt"
        if file.is_file():
            return file
    raise WeightsError("DISTS needs the weights in the package torchmetrics: pip install 'torchmetrics>=1.8'")
