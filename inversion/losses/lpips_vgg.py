"""LPIPS with VGG16: the same distance as the training loss, in the features of another network.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018
(https://arxiv.org/abs/1801.03924).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.losses.lpips import LevelDistance
from inversion.losses.vgg import STAGES, VggStages

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""The package's normalisation of images in [-1, 1]."""


class LpipsVgg(nn.Module):
    """Distance ``(B,)`` of images ``(B, 3, H, W)`` in [0, 1] from targets; 0 for equal ones. As ``lpips`` 0.1."""

    shift: Tensor
    scale: Tensor

    def __init__(self, stages: VggStages) -> None:
        super().__init__()
        import lpips  # type: ignore[import-untyped]

        self.stages = stages
        file = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
        linear = torch.load(file, map_location="cpu", weights_only=True)
        for level in range(len(STAGES)):
            self.register_buffer(f"linear{level}", linear[f"lin{level}.model.1.weight"].float(), persistent=False)
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        levels, others = (self.stages((2 * values - 1 - self.shift) / self.scale, partial(F.max_pool2d, kernel_size=2))
                          for values in (images, targets))
        with torch.autocast(images.device.type, enabled=False):
            parts = [LevelDistance.apply(one.float(), other.float(), self.get_buffer(f"linear{level}"))
                     for level, (one, other) in enumerate(zip(levels, others, strict=True))]
            return torch.stack(parts).sum(dim=0)
