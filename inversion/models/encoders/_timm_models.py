"""timm's models: names, layers, feature shapes, locations of weights. Importing this imports timm.

Models are built on PyTorch's meta device, where tensors have shapes but no memory.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from typing import Any

import timm
import torch
from timm.layers.patch_embed import PatchEmbed
from timm.models import get_pretrained_cfg, is_model, list_models
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.pvt_v2 import PyramidVisionTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from inversion.errors import RequestError, UnknownNameError
from inversion.images import Normalisation
from inversion.models import FeatureShape
from inversion.models.encoders import _timm_hub
from inversion.models.encoders._attention import projected_channels
from inversion.models.encoders._timm_names import UnknownTimmModelError
from inversion.models.encoders.specs import TIMM_PREFIX, EncoderSpec, LayerSpec, with_parts, without_norm
from inversion.text import reason

SIZES = 32
"""Every image size is a multiple of this."""

_COUNTED = re.compile(r"(block|stage)s[._](\d+)")


def describe(name: str) -> EncoderSpec:
    """The timm model ``name`` as the encoder ``timm/NAME``, with an explicit weights tag if timm has one.

    The tag decides both normalisation and weights, and timm's default tags change between versions. A model on the hub
    has the commit instead.

    Raises:
        UnknownNameError: timm does not have this model, or the model does not have this tag.
        RequestError: the model does not take RGB images, or cannot be cut; or it is on the hub, and cannot be had.
    """
    return _describe(_full_name(name))


@functools.lru_cache(maxsize=64)
def _describe(name: str) -> EncoderSpec:
    model = create(name)
    config = pretrained_config(name)
    mean, std = config.mean, config.std
    if config.input_size[0] != 3 or len(mean) != 3 or len(std) != 3:
        raise RequestError(f"{TIMM_PREFIX}{name} takes {config.input_size[0]} channels, not RGB images")
    layers = {layer_name(node, number): LayerSpec(info["num_chs"], info["reduction"], node)
              for number, (node, info) in enumerate(_feature_info(model, name).items(), start=1)}
    if isinstance(model, PyramidVisionTransformerV2):  # each of its stages ends with a LayerNorm
        layers = without_norm(layers)
    if isinstance(model, (VisionTransformer, Eva, Beit)):
        layers = with_parts(layers, _channels_of_parts(model))
    return EncoderSpec(
        TIMM_PREFIX + name, "timm", name, name, layers, Normalisation(tuple(mean), tuple(std)),
        f"{type(model).__name__} from timm", config.paper_name or "", _page(name),
    )


def _page(name: str) -> str:
    """The page of the weights."""
    repository, _, revision = _timm_hub.repository_of(name).partition("@")
    return f"https://huggingface.co/{repository}/tree/{revision}" if revision else f"https://huggingface.co/timm/{name}"


def _channels_of_parts(model: Any) -> dict[str, int]:
    """The parts that the blocks of a Vision Transformer have, with their channels."""
    tokens = {"cls": 0 if model.cls_token is None else 1, "registers": register_count(model)}
    return {**{part: count * model.embed_dim for part, count in tokens.items() if count},
            **projected_channels(model.blocks)}


def register_count(model: Any) -> int:
    """The number of register tokens, which follow the class token."""
    registers = getattr(model, "reg_token", None)
    return 0 if registers is None else int(registers.shape[1])


def layer_name(node: str, number: int) -> str:
    """``blocks.0`` → ``block1``, ``stages_3`` → ``stage4``; other names stay, and an empty one is numbered."""
    if counted := _COUNTED.fullmatch(node):
        return f"{counted[1]}{int(counted[2]) + 1}"
    return node or f"feature{number}"


@functools.lru_cache(maxsize=256)
def feature_shape(name: str, index: int, image_size: int) -> FeatureShape:
    """The shape of the features of layer ``index``.

    Raises:
        RequestError: the model does not support this image size.
    """
    try:
        model: Any = create(name, image_size).eval()
        _require_whole_patches(model, image_size)
        with torch.no_grad():
            images = torch.empty(1, 3, image_size, image_size, device="meta")
            features = model.forward_intermediates(images, indices=[index], norm=False, stop_early=True,
                                                   output_fmt="NCHW", intermediates_only=True)
    except Exception as error:  # models raise any kind of error for an unsupported size
        why = reason(error)
        raise RequestError(f"{TIMM_PREFIX}{name} cannot be run at image_size {image_size}: {why}") from error
    return FeatureShape(*features[0].shape[1:])


def _require_whole_patches(model: nn.Module, image_size: int) -> None:
    """Raises a RequestError if the model would leave pixels at the border out, as a convolution with a stride does."""
    patches = getattr(model, "patch_embed", None)
    if isinstance(patches, PatchEmbed) and image_size % patches.patch_size[0]:
        edge = patches.patch_size[0]
        least = math.lcm(edge, SIZES)
        count = max(1, image_size // least)
        raise RequestError(f"its patches have {edge} × {edge} pixels. Allowed: multiples of {least}, such as "
                           f"{count * least} or {(count + 1) * least}")


def create(name: str, image_size: int | None = None, device: str = "meta", **options: Any) -> nn.Module:
    """Builds the whole model for an image size; ``options`` are passed to ``timm.create_model``."""
    # Models with position embeddings or windows of a fixed size take the image size; others work at any size.
    if image_size and pretrained_config(name).fixed_input_size:
        options["img_size"] = image_size
    with torch.device(device):
        if not _timm_hub.is_on_hub(name):
            return timm.create_model(name, **options)
        folder = _timm_hub.folder_of(name)
        try:
            return timm.create_model(f"local-dir:{folder}", **options)
        except Exception as error:  # config.json may hold anything, and be of another library's model
            raise RequestError(f"{TIMM_PREFIX}{name} is no model in timm's format, by its {_timm_hub.CONFIG}: "
                               f"{reason(error)}") from error


def pretrained_config(name: str) -> Any:
    """timm's ``PretrainedCfg``: normalisation, input size and location of the weights."""
    if _timm_hub.is_on_hub(name):
        known = {field.name for field in dataclasses.fields(timm.models.PretrainedCfg)}
        found: Any = create(name)
        return timm.models.PretrainedCfg(**{key: value for key, value in found.pretrained_cfg.items() if key in known})
    return get_pretrained_cfg(name, allow_unregistered=True) or timm.models.PretrainedCfg()


def weights_location(name: str) -> tuple[str, str, tuple[str, ...]]:
    """URL, Hugging Face repository (which timm prefers) and file names; each is empty if timm has none."""
    if _timm_hub.is_on_hub(name):
        return "", _timm_hub.repository_of(name), ()
    config = pretrained_config(name)
    url = config.url if isinstance(config.url, str) else (config.url or ("",))[0]
    return url, config.hf_hub_id or "", (config.hf_hub_filename,) if config.hf_hub_filename else ()


def _full_name(name: str) -> str:
    if _timm_hub.is_on_hub(name):
        return _timm_hub.full_name(name)
    architecture, _, tag = name.partition(".")
    if not is_model(architecture):
        raise UnknownTimmModelError(name, list_models())
    if not tag:
        config = get_pretrained_cfg(architecture, allow_unregistered=True)
        return f"{architecture}.{config.tag}" if config and config.tag else architecture
    tags = [full.partition(".")[2] for full in list_models(f"{architecture}.*", include_tags=True)]
    if tag not in tags:
        raise UnknownNameError(f"timm's {architecture} has no weights tag", tag, [known for known in tags if known])
    return name


def _feature_info(model: nn.Module, name: str) -> dict[str, dict[str, Any]]:
    """timm's entries (channels, reduction) by module name, in the order of its feature indices."""
    info = getattr(model, "feature_info", None)
    if not info or not all(hasattr(model, method) for method in ("forward_intermediates", "prune_intermediate_layers")):
        raise RequestError(f"{TIMM_PREFIX}{name} cannot be cut: it has no feature_info or no forward_intermediates")
    layers = {entry["module"]: entry for entry in info}
    if len(layers) < len(info):
        raise RequestError(f"{TIMM_PREFIX}{name} cannot be cut: two of its layers have the same name")
    return layers
