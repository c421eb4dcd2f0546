"""What a decoder is, and how it declares its options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from inversion.errors import RequestError, UnknownNameError
from inversion.features import FeatureShape


class Options(BaseModel):
    """The options of a decoder that has none; decoders with options derive from it, a field each."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


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


def parse_decoder_options(name: str, decoder: type[Decoder], values: Mapping[str, str]) -> Options:
    """The decoder's options from ``name=value`` texts; what is not given has its default.

    Raises:
        UnknownNameError: an option that this decoder does not have.
        RequestError: a value of the wrong type or out of range.
    """
    known = decoder.OptionsType.model_fields
    for option in values:
        if option not in known:
            if not known:
                raise RequestError(f"decoder_options: decoder {name!r} has no options, so {option!r} cannot be set")
            raise UnknownNameError(f"decoder_options: decoder {name!r} has no option", option, known)
    try:
        return decoder.OptionsType.model_validate(dict(values))
    except ValidationError as error:
        detail = error.errors()[0]
        if not detail["loc"]:  # options that do not go together
            message = detail["msg"].removeprefix("Value error, ")
            raise RequestError(f"decoder_options of decoder {name!r}: {message}") from None
        option = str(detail["loc"][0])
        raise RequestError(
            f"decoder_options: {option}={detail['input']!s} of decoder {name!r}: {detail['msg']}. "
            f"({known[option].description})"
        ) from None


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
