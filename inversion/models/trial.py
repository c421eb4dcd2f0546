"""The trial of parts from outside this package, by which their faults are found before a run begins or is queued."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from inversion.errors import RequestError
from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.encoders.build import build_encoder
from inversion.models.encoders.catalog import EncoderCut, outside_encoders
from inversion.models.encoders.weights import WeightsSource
from inversion.models.fusion._outside import merged_shape
from inversion.models.model import build_fusion
from inversion.models.outside import failure


@functools.lru_cache(maxsize=256)
def try_encoder(cut: EncoderCut, source: WeightsSource, identity: str, image_size: int) -> None:
    """Builds an encoder from outside with its weights and encodes random images, twice.

    The global random state does not change. Done once in a process for all runs of a sweep.

    Args:
        cut: the encoder by its full name, with the layer.
        source: its weights.
        identity: their identity, which changes with their content.
        image_size: the side of the images.

    Raises:
        UnknownNameError: it does not have this layer.
        RequestError: its code fails, it does not take this image size, or it does not give finite maps ``(B, C, h, w)``
            that are the same each time.
        WeightsError: the file of weights cannot be read, or does not fit.
    """
    encoder = outside_encoders.get(cut.encoder)
    trunk = build_encoder(cut, source, image_size).trunk
    first, second = (encoder.try_module(trunk, cut.layer, image_size, chance) for chance in range(2))
    if not torch.equal(first, second):
        raise RequestError(f"encoder {cut}: it encodes the same images differently each time, in eval mode")


@functools.lru_cache(maxsize=256)
def try_fusion(name: str, options: tuple[tuple[str, str], ...], shapes: tuple[FeatureShape, ...]) -> FeatureShape:
    """Builds a fusion from outside and merges random maps; returns the shape of the merged map.

    The global random state does not change. Done once in a process for all runs of a sweep.

    Args:
        name: the full name of the fusion.
        options: names and values of its options.
        shapes: the shapes of the maps.

    Raises:
        UnknownNameError: it does not have one of the options.
        RequestError: its code fails, or it does not give a map ``(B, C, h, w)``, or one of another shape than its
            ``fused`` says.
    """
    with torch.random.fork_rng(devices=[]):
        built, declared = build_fusion(name, dict(options), shapes)
    found = merged_shape(name, built, shapes)
    if found != declared:
        raise RequestError(f"fusion {name}: it gives a map {found}, and its attribute fused says {declared}")
    return found


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
            raise failure("decoder", name, error) from error
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
