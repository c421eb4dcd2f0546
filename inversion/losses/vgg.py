"""VGG16's convolutions as LPIPS-VGG and DISTS use them: five stages, with the pooling of each between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Pool = Callable[[Tensor], Tensor]

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""Indices of the convolutions in torchvision's ``features``, by stage."""


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
