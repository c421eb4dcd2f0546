"""What an encoder is, before any model is built: a name, layers to cut at, normalisation, source. Free of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from inversion.errors import UnknownNameError
from inversion.images import Normalisation

TIMM_PREFIX = "timm/"


@dataclass(frozen=True)
class LayerSpec:
    """A layer that an encoder can be cut at: ``channels`` maps at 1/``stride`` of the image's side.

    ``node`` is the module of the original model whose output the features are.
    """

    channels: int
    stride: int
    node: str


@dataclass(frozen=True)
class EncoderSpec:
    """A pretrained model that can serve as an encoder, with its layers from the image inwards.

    ``model`` is the name by which ``source`` builds it, in timm with the weights tag; ``weights`` is what ``source``
    calls its ImageNet weights; ``paper`` and ``url`` say where the architecture comes from.
    """

    name: str
    source: Literal["torchvision", "timm"]
    model: str
    weights: str
    layers: Mapping[str, LayerSpec]
    normalisation: Normalisation
    summary: str
    paper: str
    url: str

    def layer(self, name: str) -> str:
        """The layer's name as ``layers`` has it; the original model's module name is understood too.

        Raises:
            UnknownNameError: there is no such layer.
        """
        for known, layer in self.layers.items():
            if name in (known, layer.node):
                return known
        raise UnknownNameError(f"{self.name} has no layer", name, self.layers)
