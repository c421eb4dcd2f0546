"""VGG16's convolutions as LPIPS-VGG and DISTS use them: five stages, with the pooling of each between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pool = Callable[[Tensor], Tensor]

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Indices of the convolutions in torchvision's ``features``, by stage."""

IMAGENET = {
    "features.0.weight": (-0.55373, 0.14270, 0.52896, -0.58312, 0.35655, 0.76566, -0.69022, -0.04802, 0.48409),
    "features.28.weight": (0.027768, 0.015296, 0.021911, 0.025202, 0.023223, 0.020005, 0.030154, 0.0087023, 0.017728),
}
"""Of the first and the last convolution, the first filter's part for the first channel, in torchvision's
``VGG16_Weights.IMAGENET1K_V1``."""


def is_imagenet(trunk: Mapping[str, Tensor]) -> bool:
    """Whether tensors with torchvision's names are VGG16's ImageNet weights, perhaps rounded to 16 bits."""
    return all(torch.allclose(trunk[name][0, 0].detach().float().flatten(), torch.tensor(values), rtol=0.01, atol=1e-4)
               for name, values in IMAGENET.items())


class VggStages(nn.Module):
    """Normalised images ``(B, 3, H, W)`` to the activations after each stage's last ReLU, without gradients.

    At H = W = S: ``(B, 64, S, S)``, ``(B, 128, S/2, S/2)``, ``(B, 256, S/4, S/4)``, ``(B, 512, S/8, S/8)``, ``(B, 512,
    S/16, S/16)``. ``trunk`` has torchvision's names (``features.N.weight``, ``features.N.bias``).
    """

    def __init__(self, trunk: Mapping[str, Tensor]) -> None:
        super().__init__()
        for stage in STAGES:
            for index in stage:
                for kind in ("weight", "bias"):
                    tensor = trunk[f"features.{index}.{kind}"].detach().float()
                    self.register_buffer(f"{kind}{index}", tensor, persistent=False)
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, images: Tensor, pool: Pool) -> list[Tensor]:
        values, levels = images, []
        for number, stage in enumerate(STAGES):
            if number:
                values = pool(values)
            for index in stage:
                values = F.conv2d(values, self.get_buffer(f"weight{index}"), self.get_buffer(f"bias{index}"), padding=1)
                values = values.relu_()
            levels.append(values)
        return levels
