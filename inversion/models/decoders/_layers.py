"""Layers shared by several decoders."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models._layers import convolution_stage

CHANNEL_FLOOR = 32
COLOURS = 3


def doublings(features: FeatureShape, image_size: int) -> int:
    """Number of 2× upsamplings until a feature map is at least as large as the image; 0 if it already is."""
    return max(0, math.ceil(math.log2(image_size / min(features.height, features.width))))


class _SumToBias(torch.autograd.Function):
    """Identity on ``values`` in the forward pass; the backward pass also gives the gradient of a bias added to them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bias: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], gradients[0].sum(dim=(0, 2, 3))


class Doubling(nn.ConvTranspose2d):
    """ConvTranspose2d(k=4, s=2, p=1), ``(B, C, h, w)`` → ``(B, C', 2h, 2w)``, with a faster backward pass on CPUs.

    oneDNN's gradient of the bias takes longer than that of the weights: 3 of 5 ms per image for 32 channels at 224×224,
    compared with 0.1 ms for a plain sum (docs/log.md). Other devices use PyTorch's own layer.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=4, stride=2, padding=1)

    def forward(self, values: Tensor, output_size: list[int] | None = None) -> Tensor:
        if values.device.type != "cpu":
            return super().forward(values, output_size)
        bias = cast(Tensor, self.bias)
        doubled = F.conv_transpose2d(values, self.weight, bias.detach(), stride=2, padding=1)
        result: Tensor = _SumToBias.apply(doubled, bias)
        return result


def upsampling_stage(inputs: int, outputs: int) -> nn.Sequential:
    """Doubles height and width: ConvTranspose2d(k=4, s=2, p=1) → BatchNorm → ReLU."""
    return nn.Sequential(
        Doubling(inputs, outputs),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def trunk(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    """``depth`` stages of 3×3 convolution → BatchNorm → ReLU."""
    stages = [convolution_stage(outputs if number else inputs, outputs) for number in range(depth)]
    return nn.Sequential(*itertools.chain(*stages))


def start_near_zero(head: nn.Conv2d) -> nn.Conv2d:
    """Scales a head's initial weights by 0.1 and zeroes its bias, so that training starts from a grey image.

    With PyTorch's default initialisation, the first images are noise with a standard deviation of 0.4, which cost 5 dB
    after 150 steps at vgg16:block1 (docs/log.md).
    """
    with torch.no_grad():
        head.weight.mul_(0.1)
        if head.bias is not None:
            head.bias.zero_()
    return head


def halved(channels: int) -> int:
    """Half the number of channels, at least 32."""
    return max(channels // 2, CHANNEL_FLOOR)


def resize_to(values: Tensor, size: int) -> Tensor:
    """Bilinear resize to ``(B, C, size, size)``, if the map has another size."""
    if values.shape[-2:] == (size, size):
        return values
    return F.interpolate(values, size=(size, size), mode="bilinear", align_corners=False)


class UpsamplingHead(nn.Module):
    """Upsamples a feature map by factors of two to the image's size, then maps it to RGB.

    ::

        features (B, C, h, w)
          → K upsampling stages, K = ⌈log2(S / min(h, w))⌉      (B, C', 2^K·h, 2^K·w)
          → bilinear resize, if that is not S×S                 (B, C', S, S)
          → Conv2d(3×3) → sigmoid                               (B, 3, S, S) in [0, 1]

    The first stage has ``width`` channels (0: half the features', at least 32); each further one halves them, to no
    fewer than 32. ``depth`` 3×3 convolution stages follow each upsampling stage.
    """

    def __init__(self, features: FeatureShape, image_size: int, width: int = 0, depth: int = 0) -> None:
        super().__init__()
        self.image_size = image_size
        stages: list[nn.Module] = []
        channels = features.channels
        for number in range(doublings(features, image_size)):
            outputs = width if width and number == 0 else halved(channels)
            stages.append(upsampling_stage(channels, outputs))
            stages += [convolution_stage(outputs, outputs) for _ in range(depth)]
            channels = outputs
        self.stages = nn.Sequential(*stages)
        self.to_rgb = nn.Conv2d(channels, 3, kernel_size=3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        rgb: Tensor = self.to_rgb(resize_to(self.stages(values), self.image_size))
        return rgb.float().sigmoid()
