"""The encoders by name, their layers, and the parsing of the parameters ``encoder`` and ``layer``.

This module does not import PyTorch. It imports timm only for a ``timm/NAME`` that exists, whose layers only timm knows.
The package's docstring says how to add an encoder to ``_SPECS``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from inversion.errors import RequestError
from inversion.images import IMAGENET, Normalisation
from inversion.models import FeatureShape, part_files
from inversion.models.encoders import _timm_hub, _timm_names
from inversion.models.encoders._forms import is_foreign, require_written, unknown_encoder
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.specs import (
    RANGE,
    SHORT_NAMES,
    TIMM_PREFIX,
    EncoderSpec,
    LayerSpec,
    OutsideSpec,
    with_parts,
    without_norm,
)
from inversion.models.modifiers import Modifier, parse_modifiers
from inversion.models.open_registry import OutsideParts

if TYPE_CHECKING:
    from inversion.models.encoders._outside import OutsideEncoder

_VGG16_CHANNELS_AND_POOLS = ((64, 4), (128, 9), (256, 16), (512, 23), (512, 30))
_RESNET34_CHANNELS = (64, 128, 256, 512)
_PVT_V2_B2_CHANNELS = (64, 128, 320, 512)
_VIT_SMALL = "vit_small_patch16_224.augreg_in21k_ft_in1k"

_SPECS = (
    EncoderSpec(
        "vgg16", "torchvision", "vgg16", "VGG16_Weights.IMAGENET1K_V1",
        {f"block{number}": LayerSpec(channels, 2**number, f"features.{pool}")
         for number, (channels, pool) in enumerate(_VGG16_CHANNELS_AND_POOLS, start=1)},
        IMAGENET, "plain 3×3 convolutions; a block ends with its max-pool",
        "Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015",
        "https://arxiv.org/abs/1409.1556", ("simonyan2015vgg",), weights_url="https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
    EncoderSpec(
        "resnet34", "torchvision", "resnet34", "ResNet34_Weights.IMAGENET1K_V1",
        {f"layer{number}": LayerSpec(channels, 2 ** (number + 1), f"layer{number}")
         for number, channels in enumerate(_RESNET34_CHANNELS, start=1)},
        IMAGENET, "convolutions with residual connections",
        "He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
        "https://arxiv.org/abs/1512.03385", ("he2016resnet",), weights_url="https://download.pytorch.org/models/resnet34-b627a593.pth",
    ),
    EncoderSpec(
        "vit_small", "timm", _VIT_SMALL, _VIT_SMALL,
        with_parts({f"block{number}": LayerSpec(384, 16, f"blocks.{number - 1}") for number in range(1, 13)},
                   dict.fromkeys(("cls", "q", "k", "v"), 384)),
        Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)), "transformer over 16×16 patches; patch tokens as a map",
        "Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021; weights of Steiner et al., "
        "How to train your ViT?, TMLR 2022",
        "https://arxiv.org/abs/2010.11929", ("dosovitskiy2021vit", "steiner2022augreg"),
    ),
    EncoderSpec(
        "pvt_v2_b2", "timm", "pvt_v2_b2.in1k", "pvt_v2_b2.in1k",
        without_norm({f"stage{number}": LayerSpec(channels, 2 ** (number + 1), f"stages.{number - 1}")
                      for number, channels in enumerate(_PVT_V2_B2_CHANNELS, start=1)}),
        IMAGENET, "pyramid of transformer stages",
        "Wang et al., PVT v2: Improved Baselines with Pyramid Vision Transformer, CVM 2022",
        "https://arxiv.org/abs/2106.13797", ("wang2022pvtv2",),
    ),
)

ENCODERS: dict[str, EncoderSpec] = {spec.name: spec for spec in _SPECS}
"""The encoders of the study; any other timm model is ``timm/NAME``, and some have short names."""


def _adapt(name: str, made: Any) -> OutsideEncoder:
    from inversion.models.encoders._outside import OutsideEncoder

    return OutsideEncoder(name, made)


outside_encoders: OutsideParts[OutsideEncoder] = OutsideParts(
    "encoder", _adapt, lambda: [*ENCODERS, *SHORT_NAMES, "ensemble"])
"""The encoders that are files and functions in them, or entry points of installed packages."""


def encoder_spec(name: str) -> EncoderSpec:
    """The description of an encoder: one of ``ENCODERS``, ``timm/NAME`` with or without a weights tag, a short name, a
    timm model on Hugging Face's hub, or one from outside, which is not executed. The file of a full name may be on
    another machine.

    Raises:
        UnknownNameError: there is no such encoder.
        RequestError: timm has the model, but it cannot be used as an encoder; or a file cannot be used.
    """
    if name in outside_encoders:
        return OutsideSpec.of(name if part_files.references([name]) else outside_encoders.full_name(name))
    if name in ENCODERS:
        return ENCODERS[name]
    if name in SHORT_NAMES:
        name = TIMM_PREFIX + SHORT_NAMES[name]
    if _timm_hub.is_on_hub(name):
        name = TIMM_PREFIX + name
    if name.startswith(TIMM_PREFIX):
        if not _timm_hub.is_on_hub(name.removeprefix(TIMM_PREFIX)):
            require_written(name)
            _timm_names.require_possible_model(name.removeprefix(TIMM_PREFIX))
        from inversion.models.encoders import _timm_models

        return _timm_models.describe(name.removeprefix(TIMM_PREFIX))
    raise unknown_encoder(name, [*ENCODERS, *outside_encoders.names()], SHORT_NAMES)


@dataclass(frozen=True)
class EncoderCut:
    """An encoder cut at a layer, whose output, changed by the modifiers in their order, is the features.

    ``str(cut)`` is ``"vgg16:block1"`` or ``"vgg16:block1/pool=2/bits=4"``.
    """

    encoder: str
    layer: str
    modifiers: tuple[Modifier, ...] = ()

    def __str__(self) -> str:
        return "/".join([f"{self.encoder}:{self.layer}", *map(str, self.modifiers)])

    @property
    def spec(self) -> EncoderSpec:
        """The description of the encoder."""
        return encoder_spec(self.encoder)

    def shape(self, image_size: int) -> FeatureShape:
        """The shape of the features of images ``(B, 3, image_size, image_size)``.

        Raises:
            RequestError: the encoder does not support this image size, or a modifier cannot be applied.
        """
        *_, last = self._shapes(image_size)
        return last

    def raw_shape(self, image_size: int) -> FeatureShape:
        """The shape of the layer's output, before the modifiers.

        Raises:
            RequestError: the encoder does not support this image size.
        """
        spec = self.spec
        name = spec.layer(self.layer)
        if spec.source == "outside":
            return outside_encoders.get(self.encoder).shape(name, image_size)
        layer = spec.layers[name]
        if self.encoder.startswith(TIMM_PREFIX):
            from inversion.models.encoders import _timm_models

            return layer.shape(_timm_models.feature_shape(spec.model, spec.position(name), image_size))
        if image_size < 32 or image_size % 32:
            raise RequestError(f"image_size {image_size}: {self} needs a multiple of 32")
        return layer.shape(FeatureShape(layer.channels, image_size // layer.stride, image_size // layer.stride))

    def bits(self, image_size: int) -> int | None:
        """Bits that the features of an image need, ``values · b``; None if no modifier limits them.

        All later changes can be computed by the receiver, so the smallest of several limits counts. Nothing is entropy
        coded.
        """
        shapes = list(self._shapes(image_size))[1:]
        limits = [modifier.bits_per_value * shape.channels * shape.spatial_positions
                  for modifier, shape in zip(self.modifiers, shapes, strict=True) if modifier.bits_per_value]
        return min(limits, default=None)

    def _shapes(self, image_size: int) -> Iterator[FeatureShape]:
        """The shape of the layer's output, and after each modifier."""
        shape = self.raw_shape(image_size)
        yield shape
        for modifier in self.modifiers:
            try:
                shape = modifier.shape(shape)
            except RequestError as error:
                raise RequestError(f"encoder {self} at image_size {image_size}: {error}") from error
            yield shape


def deepest(cuts: Iterable[EncoderCut]) -> EncoderCut:
    """The cut of one encoder that is farthest from its input."""
    return max(cuts, key=lambda cut: cut.spec.position(cut.layer))


ENSEMBLE: tuple[EncoderCut, ...] = (
    EncoderCut("resnet34", "layer1"),
    EncoderCut("vgg16", "block1"),
    EncoderCut("vit_small", "block1"),
    EncoderCut("pvt_v2_b2", "stage1"),
)
"""The encoders of ``encoder=ensemble``."""


def parse_encoders(encoder: str, layer: str = "auto") -> tuple[EncoderCut, ...]:
    """Parses the parameters ``encoder`` and ``layer`` to cuts with full names, in the given order.

    ``encoder`` is ``vgg16``, ``vgg16:block1``, ``ensemble``, ``timm/NAME``, ``timm/NAME:LAYER``, a short name of these
    (``dinov2_s:block6``), a timm model of Hugging Face's hub (``hf-hub:USER/REPO:block6``), or one from outside
    (``FILE.py:NAME:LAYER``), each optionally with modifiers (``vgg16:block1/pool=2``), or several of them joined by
    ``+``. After one with a layer, other layers of the encoder need not repeat its name: ``vgg16:block1+block3``. The
    default layer is the encoder's first one, and of one from outside its output. Modifiers of ``ensemble`` apply to
    each of its members. ``layer`` can have modifiers, too, and be several layers joined by ``+``.

    Raises:
        UnknownNameError: the encoder, the layer or a modifier does not exist.
        RequestError: ``layer`` is given with several encoders or with one that has a layer already; a cut is repeated;
            the value of a modifier is not allowed.
    """
    parts = [part.strip() for part in encoder.split("+")]
    if not all(parts):
        raise RequestError(f"encoder {encoder!r}: a name is missing (write several as vgg16:block1+resnet34)")
    parts = _with_encoders(parts)
    for part in parts:
        if split_request(part).encoder not in outside_encoders and is_foreign(part, (*ENCODERS, *SHORT_NAMES)):
            raise unknown_encoder(part, ENCODERS, SHORT_NAMES)
    if layer != "auto":
        name, given, modifiers = split_request(parts[0])
        if len(parts) > 1 or name == "ensemble" or given is not None:
            raise RequestError(f"layer {layer!r} beside encoder {encoder!r}: a layer is for one encoder without one. "
                               "Write encoder=NAME:LAYER, and leave layer out.")
        parts = ["/".join([f"{name}:{one.strip()}", *modifiers]) for one in layer.split("+")]
    cuts = [cut for part in parts for cut in _parse_part(part)]
    for cut in cuts:
        if cuts.count(cut) > 1:
            raise RequestError(f"encoder {encoder!r}: {cut} is there twice")
    return tuple(cuts)


def without_repetition(encoder: str) -> str:
    """A checked ``encoder`` for a name: an encoder once before all its layers, as in ``vgg16:block1+block3``."""
    shown, before = [], ""
    for cut in encoder.split("+"):
        name = split_request(cut).encoder
        shown.append(cut.removeprefix(f"{name}:") if name == before else cut)
        before = name
    return "+".join(shown)


def expand_layers(encoder: str) -> list[str]:
    """The requests that a range of layers stands for: ``vgg16:block1..3`` or ``vgg16:block1..block3``, perhaps with
    modifiers, which apply to each. A request without a range stands for itself.

    Raises:
        UnknownNameError: the encoder or one of the layers does not exist.
        RequestError: it is no range, or one beside other encoders.
    """
    parts = [split_request(part.strip()) for part in encoder.split("+")]
    if not any(RANGE in (part.layer or "") for part in parts):
        return [encoder]
    if len(parts) > 1:
        raise RequestError(f"encoder {encoder!r}: a range of layers stands for runs with one layer each; write "
                           "fused layers out, as vgg16:block1+block3")
    (name, layers, modifiers), = parts
    first, _, last = (text.strip() for text in (layers or "").partition(RANGE))
    if not (first and last):
        raise RequestError(f"encoder {encoder!r}: a range of layers has a first and a last one, as vgg16:block1..5")
    spec = encoder_spec(name)
    return ["/".join([f"{spec.name}:{layer}", *modifiers]) for layer in spec.layers_between(first, last)]


def _with_encoders(parts: Sequence[str]) -> list[str]:
    """The parts of a request, each with an encoder: a layer alone is one of the encoder before it, if that has a layer.
    """
    named: list[str] = []
    for part in parts:
        name, layer, _ = split_request(named[-1] if named else "")
        named.append(f"{name}:{part}" if layer is not None and _is_layer(part, name) else part)
    return named


def _is_layer(text: str, encoder: str) -> bool:
    """Whether a text without ``:`` is meant as a layer of an encoder, perhaps misspelt, and not as another encoder."""
    name = text.partition("/")[0].strip()
    encoders = [*ENCODERS, *SHORT_NAMES, *outside_encoders.names(), "ensemble"]
    if ":" in text or text.startswith(TIMM_PREFIX) or name in encoders:
        return False
    spec = encoder_spec(encoder)
    if spec.source == "outside":  # whose layers are not known
        return not difflib.get_close_matches(name, encoders, 1)
    names = [*spec.layers, *(layer.node for layer in spec.layers.values())]
    known = [*names, *ENCODERS, *SHORT_NAMES]
    return next(iter(difflib.get_close_matches(name.partition(RANGE)[0], known, 1)), "") in names


def _parse_part(text: str) -> tuple[EncoderCut, ...]:
    """The cut of one encoder, or those of ``ensemble``."""
    name, layer, texts = split_request(text)
    if name == "ensemble" and layer is None:
        modifiers = parse_modifiers(texts)
        return tuple(replace(member, modifiers=modifiers) for member in ENSEMBLE)
    spec = encoder_spec(name)
    if layer and RANGE in layer:
        raise RequestError(f"encoder {text!r} is a range of layers, and one layer is needed here: ranges are values of "
                           "an axis, in a block of a spec's grid, in --set and in --where")
    known = next(iter(spec.layers)) if layer is None else spec.layer(layer)
    return (EncoderCut(spec.name, known, parse_modifiers(texts)),)
