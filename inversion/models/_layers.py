"""A stage that decoders and fusions are made of."""

from __future__ import annotations

from torch import nn


def convolution_stage(inputs: int, outputs: int, kernel: int = 3, bias: bool = False) -> nn.Sequential:
    """Convolution that keeps the size → BatchNorm → ReLU, ``(B, inputs, h, w)`` → ``(B, outputs, h, w)``.

    A bias has no effect on the result; the published study's networks have one, which counts as parameters.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
