"""The description of an encoder: its source, layers, normalisation and weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from inversion.errors import RequestError, UnknownNameError
from inversion.images import Normalisation
from inversion.models import FeatureShape

TIMM_PREFIX = "timm/"

RANGE = ".."
"""Between the first and the last layer of a range: ``vgg16:block1..5``."""

SHORT_NAMES = {
    "resnet50": "resnet50.a1_in1k",
    "convnext_t": "convnext_tiny.fb_in22k_ft_in1k",
    "efficientnet_b0": "efficientnet_b0.ra_in1k",
    "swin_t": "swin_tiny_patch4_window7_224.ms_in1k",
    "mae_b": "vit_base_patch16_224.mae",
    "clip_b": "vit_base_patch16_clip_224.openai",
    "siglip2_b": "vit_base_patch16_siglip_224.v2_webli",
    "dinov2_s": "vit_small_patch14_dinov2.lvd142m",
    "dinov2_s_reg": "vit_small_patch14_reg4_dinov2.lvd142m",
    "dinov2_b": "vit_base_patch14_dinov2.lvd142m",
    "dinov2_b_reg": "vit_base_patch14_reg4_dinov2.lvd142m",
    "dinov3_s": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3_b": "vit_base_patch16_dinov3.lvd1689m",
}
"""Other ways to write ``timm/NAME.TAG``, with the tag of the weights. Runs have the full name."""

OUTPUT = "output"
"""The layer of an encoder from outside at which nothing is cut: what the module returns."""

TOKENS = ("cls", "registers")
"""Parts of a transformer block's output that have no place in the image."""

PROJECTIONS = ("q", "k", "v")
"""Parts of a transformer block's attention: the queries, keys and values of the patch tokens."""

_ABSENT = {"cls": "the model has no class token", "registers": "the model has no register tokens",
           **dict.fromkeys(PROJECTIONS, "it has no attention whose queries, keys and values can be read")}
"""Why a layer does not have a part."""


@dataclass(frozen=True)
class LayerSpec:
    """A layer at which an encoder can be cut: its features are ``(B, channels, S / stride, S / stride)``.

    Attributes:
        channels: the channels of the features.
        stride: pixels of the image per location; without meaning for ``TOKENS``, which are ``(B, channels, 1, 1)``.
        node: the name of the module in the original model whose output the features are.
        skipped: a module of that one which is left out: its final norm, so that the features are those before it.
        part: for a transformer block, what the features are in place of the patch tokens: one of ``TOKENS`` or
            ``PROJECTIONS``. Several tokens follow one another in the channels.
    """

    channels: int
    stride: int
    node: str
    skipped: str = ""
    part: str = ""

    @property
    def variant(self) -> str:
        """What the layer's name ends with, if the features are not the layer's own output: ``-prenorm``, ``-cls``."""
        name = "prenorm" if self.skipped else self.part
        return f"-{name}" if name else ""

    def shape(self, output: FeatureShape) -> FeatureShape:
        """The shape of the features, given that of the module's output as a map."""
        if not self.part:
            return output
        return FeatureShape(self.channels, *((1, 1) if self.part in TOKENS else output[1:]))


@dataclass(frozen=True)
class EncoderSpec:
    """A pretrained model that can be used as an encoder.

    Attributes:
        name: the name in ``encoder=NAME:LAYER``.
        source: the library that builds the model; ``outside`` for a function from outside this package.
        model: the model's name in that library, with the weights tag for timm.
        weights: the library's name of the ImageNet weights, for timm with the tag.
        layers: the layers by name, from the input to the output; then those without their final norm, and parts of
            layers.
        normalisation: mean and standard deviation that the weights were trained with.
        summary: the architecture in a few words.
        paper: the publication of the architecture.
        url: the address of the publication.
        citations: the keys of publications to cite (``report.render.citations``).
        weights_url: torchvision's address of the weights, known without importing it; empty for timm.
    """

    name: str
    source: Literal["torchvision", "timm", "outside"]
    model: str
    weights: str
    layers: Mapping[str, LayerSpec]
    normalisation: Normalisation
    summary: str
    paper: str
    url: str
    citations: tuple[str, ...] = ()
    weights_url: str = ""

    def layer(self, name: str) -> str:
        """The name of a layer in ``layers``, given that name or the module name in the original model.

        Raises:
            UnknownNameError: there is no such layer.
        """
        for known, layer in self.layers.items():
            if name in (known, layer.node):
                return known
        whole, _, part = name.rpartition("-")
        what = f"{self.name} has no layer"
        if whole in self.layers and part in _ABSENT:
            raise UnknownNameError(what, name, self.listed, meant=whole, note=_ABSENT[part])
        raise UnknownNameError(what, name, self.listed, next(iter(difflib.get_close_matches(name, self.layers, 1)), ""))

    @property
    def listed(self) -> list[str]:
        """The layers for a message: parts of layers by their ranges, ``block1-cls..12``."""
        names = [name for name, layer in self.layers.items() if not layer.part]
        for part in dict.fromkeys(layer.part for layer in self.layers.values() if layer.part):
            those = [name for name, layer in self.layers.items() if layer.part == part]
            names.append(f"{those[0]}{RANGE}{_numbered(those[-1])[1]}")
        return names

    def layers_between(self, first: str, last: str) -> list[str]:
        """The layers from ``first`` to ``last``, whose names differ in a number; ``last`` may be the number alone.

        Raises:
            UnknownNameError: one of the two does not exist.
            RequestError: they are no range: other names, or the last one is before the first.
        """
        begin = self.layer(first)
        end = self.layer(_last_of_range(begin, last))
        between = _between(self.name, begin, end, f". Known: {', '.join(self.listed)}.")
        return [name for name in self.layers if name in between]

    def position(self, name: str) -> int:
        """The position of a layer's module among those of all layers, from the input to the output."""
        return list(dict.fromkeys(layer.node for layer in self.layers.values())).index(self.layers[name].node)

    def depth(self, name: str) -> tuple[str, tuple[int, ...]]:
        """A text that is equal for layers that end alike, and numbers by which these are sorted by their depth."""
        return self.layers[name].variant, (self.position(name),)


@dataclass(frozen=True)
class OutsideSpec(EncoderSpec):
    """An encoder from outside this package, of which only the name is known until its code is executed.

    Every name is taken for that of a layer; ``models.encoders._outside`` finds out whether there is such a module.
    """

    @classmethod
    def of(cls, name: str) -> OutsideSpec:
        """The description of the encoder of a full name."""
        return cls(name, "outside", name, "", {OUTPUT: LayerSpec(0, 1, OUTPUT)},
                   Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), "from outside this package", "", "")

    def layer(self, name: str) -> str:
        if not name:
            raise UnknownNameError(f"{self.name} has no layer", name, [OUTPUT, "or the name of a submodule"])
        return name

    def layers_between(self, first: str, last: str) -> list[str]:
        return _between(self.name, first, _last_of_range(first, last))

    def depth(self, name: str) -> tuple[str, tuple[int, ...]]:
        """By the numbers in the name; layers whose names differ in more than that are not compared."""
        return ":" + re.sub(r"\d+", "#", name), tuple(map(int, re.findall(r"\d+", name)))


def _last_of_range(first: str, last: str) -> str:
    """The last layer of a range, which may be written as a number alone."""
    stem, _, tail = _numbered(first)
    return f"{stem}{last}{tail}" if last.isdecimal() else last


def _between(encoder: str, first: str, last: str, known: str = "") -> list[str]:
    """The names from the first to the last, which differ in a number.

    Raises:
        RequestError: they are no range; the message ends with ``known``.
    """
    (stem, low, tail), (last_stem, high, last_tail) = _numbered(first), _numbered(last)
    if (stem, tail) != (last_stem, last_tail) or not 0 <= low <= high:
        raise RequestError(f"{encoder} has no layers from {first} to {last}: the layers of a range have the same name "
                           f"and rising numbers{known}")
    return [f"{stem}{number}{tail}" for number in range(low, high + 1)]


def _numbered(layer: str) -> tuple[str, int, str]:
    """The name of a layer around its last number: ``stage1-prenorm`` → ``stage``, 1, ``-prenorm``; without one, -1."""
    found = re.fullmatch(r"(.*?)(\d+)(\D*)", layer)
    return (found[1], int(found[2]), found[3]) if found else (layer, -1, "")


def without_norm(layers: Mapping[str, LayerSpec], norm: str = "norm") -> dict[str, LayerSpec]:
    """Layers that end with a norm, and the same without it, as ``stage1-prenorm``."""
    return _with_variants(layers, [replace(layer, skipped=norm) for layer in layers.values()])


def with_parts(layers: Mapping[str, LayerSpec], channels: Mapping[str, int]) -> dict[str, LayerSpec]:
    """Transformer blocks, and their parts, as ``block1-cls``; ``channels`` are those of each part that they have."""
    return _with_variants(layers, [replace(layer, channels=count, part=part)
                                   for part, count in channels.items() for layer in layers.values()])


def _with_variants(layers: Mapping[str, LayerSpec], variants: Iterable[LayerSpec]) -> dict[str, LayerSpec]:
    names = {layer.node: name for name, layer in layers.items()}
    return {**layers, **{names[layer.node] + layer.variant: layer for layer in variants}}
