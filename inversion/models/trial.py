"""The trial of a decoder from outside this package, by which its faults are found before a run begins or is queued."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from inversion.errors import RequestError
from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.decoders._outside import failure


@functools.lru_cache(maxsize=256)
def try_decoder(name: str, options: tuple[tuple[str, str], ...], features: FeatureShape, image_size: int) -> None:
    """Builds a decoder from outside and decodes random features.

    The global random state does not change. Done once in a process for all runs of a sweep.

    Args:
        name: the full name of the decoder.
        options: names and values of its options.
        features: the shape of the features.
        image_size: the side S of the image.

    Raises:
        UnknownNameError: it does not have one of the options.
        RequestError: its code fails, it has no parameters to train, or it does not give images ``(B, 3, S, S)`` in
            [0, 1].
    """
    kind = decoders.get(name)
    parsed = parse_decoder_options(name, kind.OptionsType, dict(options))
    with torch.random.fork_rng(devices=[]):
        built = kind.build(features, image_size, parsed).eval()
        if not any(parameter.requires_grad for parameter in built.parameters()):
            raise RequestError(f"decoder {name}: it has no parameters to train")
        values = torch.randn(2, *features)
        try:
            with torch.no_grad():
                images = built(values)
        except Exception as error:
            raise failure(name, error) from error
    _require_images(images, f"decoder {name}: for features {tuple(values.shape)} it", (2, 3, image_size, image_size))


def _require_images(images: object, what: str, shape: tuple[int, ...]) -> None:
    if not isinstance(images, Tensor):
        raise RequestError(f"{what} gives an object of type {type(images).__name__}, and not images {shape}")
    if tuple(images.shape) != shape:
        raise RequestError(f"{what} gives {tuple(images.shape)}, and not images {shape}")
    if not images.is_floating_point():
        raise RequestError(f"{what} gives {str(images.dtype).removeprefix('torch.')}, and not floating-point numbers")
    low, high = images.min().item(), images.max().item()
    if not (low >= 0 and high <= 1):  # NaN is in no range either
        raise RequestError(f"{what} gives values from {low:.3g} to {high:.3g}, and images are in [0, 1]: end with a "
                           "sigmoid, or with inversion.models.decoders.clamp_to_image")
