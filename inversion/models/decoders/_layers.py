"""Layers that several decoders are made of."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape

CHANNEL_FLOOR = 32


def doublings(features: FeatureShape, image_size: int) -> int:
    """How often a feature map must be doubled to be at least as large as the image (0 when it is already)."""
    return max(0, math.ceil(math.log2(image_size / min(features.height, features.width))))


class _SumToBias(torch.autograd.Function):
    """The values as they are; their gradient, summed, is also that of a bias which was added to them."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bias: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], gradients[0].sum(dim=(0, 2, 3))


class Doubling(nn.ConvTranspose2d):
    """ConvTranspose2d(k=4, s=2, p=1), which doubles height and width; the same numbers, sooner.

    oneDNN's own gradient of the bias takes longer than that of the weights: 3 of 5 ms an image for 32 channels at
    224×224, where a sum takes 0.1 (docs/log.md). Devices other than CPUs use the plain layer.
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


def convolution_stage(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3×3 convolution → BatchNorm → ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def start_near_zero(head: nn.Conv2d) -> nn.Conv2d:
    """A head of transform coefficients that starts near zero, so that training starts at a grey image.

    At PyTorch's default initialisation the synthesised image starts as noise of standard deviation 0.4, and unlearning
    it cost 5 dB after 150 steps at vgg16:block1 (docs/log.md).
    """
    with torch.no_grad():
        head.weight.mul_(0.1)
        if head.bias is not None:
            head.bias.zero_()
    return head


def halved(channels: int) -> int:
    """Half the channels, with a floor of 32."""
    return max(channels // 2, CHANNEL_FLOOR)


def resize_to(values: Tensor, size: int) -> Tensor:
    """Bilinear to ``(B, C, size, size)`` where the map has another size (features that are no power of two away)."""
    if values.shape[-2:] == (size, size):
        return values
    return F.interpolate(values, size=(size, size), mode="bilinear", align_corners=False)


class UpsamplingHead(nn.Module):
    """Doubles a map until it is as large as the image, then maps it to RGB: ``(B, C, h, w)`` → ``(B, 3, S, S)``.

    Channels are halved at each stage, with a floor of 32; the result is in [0, 1] through a sigmoid.
    """

    def __init__(self, features: FeatureShape, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        stages: list[nn.Module] = []
        channels = features.channels
        for _ in range(doublings(features, image_size)):
            stages.append(upsampling_stage(channels, halved(channels)))
            channels = halved(channels)
        self.stages = nn.Sequential(*stages)
        self.to_rgb = nn.Conv2d(channels, 3, kernel_size=3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        rgb: Tensor = self.to_rgb(resize_to(self.stages(values), self.image_size))
        return rgb.float().sigmoid()
