"""What a decoder is, and how it declares its options."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.decoders._options import Options


class Decoder(nn.Module):
    """Features ``(B, C, h, w)`` of unit scale to images ``(B, 3, S, S)`` in [0, 1], for any C, h, w.

    ``features`` is the shape it is built for, ``image_size`` the side S. Options that cannot be are refused by their
    own model, before anything is built; whatever it accepts must work with every shape.
    """

    OptionsType: ClassVar[type[Options]] = Options

    def __init__(self, features: FeatureShape, image_size: int, options: Options) -> None:
        super().__init__()
        self.features = features
        self.image_size = image_size


class _ClampPulledBack(torch.autograd.Function):
    """Clamps to [0, 1]; outside, the gradient passes only where following it leads back inside."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (values,) = ctx.saved_tensors
        outwards = ((values > 1) & (gradients[0] < 0)) | ((values < 0) & (gradients[0] > 0))
        return gradients[0].masked_fill(outwards, 0)


def clamp_to_image(values: Tensor) -> Tensor:
    """Synthesised pixels to the image range [0, 1], for decoders that predict an image's coefficients.

    A sigmoid would make the coefficients those of the logits, not of the image. A plain clamp has no gradient outside
    the range, and a pixel that starts there would stay. So the gradient passes straight through (Bengio, Léonard and
    Courville 2013, https://arxiv.org/abs/1308.3432) where it pulls a pixel back; where it pushes further out, which
    targets beyond the range do (``protocol=published``), it would only let coefficients grow without an effect.
    """
    result: Tensor = _ClampPulledBack.apply(values.float())
    return result
