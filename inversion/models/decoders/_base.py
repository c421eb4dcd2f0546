"""The base class of decoders, and the clamp for those that synthesise pixels from coefficients."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.options import Options, design_of


class Decoder(nn.Module):
    """Maps features ``(B, C, h, w)`` of unit scale to images ``(B, 3, S, S)`` in [0, 1], for any C, h, w.

    ``features`` is the shape of the features, ``image_size`` the side S. ``OptionsType`` declares the options and
    rejects invalid ones before a decoder is built; all values that it accepts must work with every shape. ``published``
    is the class for the option ``design=published``, if the decoder has that option.
    """

    OptionsType: ClassVar[type[Options]] = Options
    published: ClassVar[type[Decoder] | None] = None

    @classmethod
    def build(cls, features: FeatureShape, image_size: int, options: Options) -> Decoder:
        """Builds the design that the options ask for."""
        return design_of(cls, cls.published, options)(features, image_size, options)

    def __init__(self, features: FeatureShape, image_size: int, options: Options) -> None:
        super().__init__()
        self.features = features
        self.image_size = image_size


class _ClampPulledBack(torch.autograd.Function):
    """Clamps to [0, 1]; outside, the gradient is kept only if a descent step moves the value back to the range."""

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
    """Clamps pixels to [0, 1], same shape, for decoders that predict transform coefficients of the image.

    With a sigmoid, the coefficients would be those of the logits and not of the image. A plain clamp has no gradient
    outside the range, so a pixel that starts there would stay there. Therefore a straight-through gradient (Bengio,
    Léonard and Courville 2013, https://arxiv.org/abs/1308.3432) is used where it moves a pixel back to the range. It is
    0 where it would move it further away, as with targets outside the range (``protocol=published``): coefficients
    would grow without any effect on the image.
    """
    result: Tensor = _ClampPulledBack.apply(values.float())
    return result
