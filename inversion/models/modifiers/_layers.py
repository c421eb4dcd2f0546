"""The module that applies an encoder's modifiers, with their state and their random numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from inversion.models import FeatureShape
from inversion.models.modifiers._base import Modifier
from inversion.seeds import derive_seed, generator

Seeds = Sequence[int]
"""One seed per image of a batch."""


class ModifierLayer(nn.Module):
    """One modifier and its state, for maps ``(B, C, h, w)`` of one shape."""

    def __init__(self, modifier: Modifier, features: FeatureShape) -> None:
        super().__init__()
        self.modifier = modifier
        for name, tensor in modifier.state(features).items():
            self.register_buffer(name, tensor)

    def fit(self, maps: Iterator[Tensor]) -> None:
        """Measures the state."""
        for name, tensor in self.modifier.fit(maps).items():
            self.get_buffer(name).copy_(tensor)

    def forward(self, features: Tensor, seeds: Seeds | None) -> Tensor:
        normal = None if seeds is None else lambda like: normal_like(like, seeds)
        # Not in bf16, which cannot hold 2^8 levels; the decoder's layers cast for themselves.
        with torch.autocast(features.device.type, enabled=False):
            return self.modifier.apply(features.float(), dict(self.named_buffers()), normal)


class Modifiers(nn.ModuleList):
    """Modifiers applied one after the other: ``(B, C, h, w)`` to ``(B, C', h', w')``; without any, the map itself.

    ``shape`` is that of the result. ``purpose`` names the encoder, so that two encoders of an ensemble draw different
    noise for an image.
    """

    def __init__(self, modifiers: Sequence[Modifier], features: FeatureShape, purpose: str) -> None:
        super().__init__()
        self.purpose = purpose
        for modifier in modifiers:
            self.append(ModifierLayer(modifier, features))
            features = modifier.shape(features)
        self.shape = features

    @property
    def layers(self) -> list[ModifierLayer]:
        return [cast(ModifierLayer, layer) for layer in self]

    @property
    def are_calibrated(self) -> bool:
        """Whether one of them is measured on training images."""
        return any(layer.modifier.is_calibrated for layer in self.layers)

    @property
    def are_random(self) -> bool:
        """Whether one of them draws random numbers."""
        return any(layer.modifier.is_random for layer in self.layers)

    def forward(self, features: Tensor, seeds: Seeds | None = None) -> Tensor:
        """The modified features; without ``seeds``, the noise is left out."""
        return self._first(len(self), features, seeds)

    def _first(self, count: int, features: Tensor, seeds: Seeds | None) -> Tensor:
        for place, layer in enumerate(self.layers[:count]):
            own = None if seeds is None else [derive_seed(seed, self.purpose, place) for seed in seeds]
            features = layer(features, own)
        return features

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterator[tuple[Tensor, Seeds]]]) -> None:
        """Measures each state on what the modifiers before it make of the encoder's maps.

        ``batches`` gives the maps of the calibration images with their seeds; it is called once for each modifier, so
        that no features are kept.
        """
        for place, layer in enumerate(self.layers):
            if layer.modifier.is_calibrated:
                layer.fit(self._first(place, features, seeds).float() for features, seeds in batches())


def content_seeds(images: Tensor) -> list[int]:
    """A seed for each image ``(B, 3, S, S)`` in [0, 1], from its pixels at 8 bits.

    So an image has the same noise wherever and beside whichever other images it is scored, and another image another.
    """
    pixels = (images.detach().float() * 255).round().to(torch.uint8).cpu().numpy()
    return [int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big") >> 1 for image in pixels]


def step_seeds(seed: int, epoch: int, step: int, first: int, count: int) -> list[int]:
    """Seeds for images ``first`` to ``first + count - 1`` of a training batch: fresh in every step of a run."""
    return [derive_seed(seed, "noise", epoch, step, index) for index in range(first, first + count)]


def normal_like(features: Tensor, seeds: Seeds) -> Tensor:
    """Standard normal numbers of the shape of ``features``, a generator of its own for each image."""
    drawn = [torch.randn(features.shape[1:], generator=generator(seed, "noise")) for seed in seeds]
    return torch.stack(drawn).to(features)
