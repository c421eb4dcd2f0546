"""Encoders from timm, cut with ``prune_intermediate_layers`` and run with ``forward_intermediates``.

``forward_intermediates`` returns the features of every architecture as maps (B, C, h, w), also the tokens of
transformers. ``prune_intermediate_layers`` removes the layers after the cut; unlike with ``features_only``, parameter
names stay those of the whole model. In models with parallel branches of different resolution (HRNet, CrossViT), timm's
pruning keeps the parts of a layer that feed the other branches.

One model can have several cuts: it is pruned behind the deepest, and run once for all.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from inversion.errors import WeightsError
from inversion.models.encoders import _timm_models
from inversion.models.encoders._attention import BlockInput, project
from inversion.models.encoders._names import COUNTER, NamesError, below, large_prefixes, one_of
from inversion.models.encoders._random import random_state, random_state_of_its_own
from inversion.models.encoders.catalog import ENCODERS, EncoderCut, deepest
from inversion.models.encoders.imagenet import cached_imagenet
from inversion.models.encoders.specs import PROJECTIONS, TOKENS
from inversion.models.encoders.state_dict import below_prefix, fit, read_state_dict
from inversion.models.encoders.weights import WeightsSource
from inversion.seeds import derive_seed

_FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
"""Names of the functions in timm's modules that convert original checkpoints to timm's names."""


@dataclass(frozen=True)
class Tap:
    """Where the features of a cut are found in the cut model.

    Attributes:
        index: the layer's index in timm's feature interface.
        part: the part of its output, as in ``LayerSpec``.
        block: for queries, keys and values, the name of the block, whose input the output is.
    """

    index: int
    part: str = ""
    block: str = ""


def build_trunk(cuts: Sequence[EncoderCut], source: WeightsSource, image_size: int) -> nn.Module:
    """Builds the cut model with its weights, for images of side ``image_size``; tensors keep timm's names.

    ``cuts`` are of one encoder, and they have the same ``pass_of``.

    Random weights of ``timm/NAME`` come from timm's initialisation of the whole model with a fresh generator. A layer's
    weights do not depend on the cut, but may depend on the version of timm and PyTorch and, in models with position
    embeddings, on the image size.

    Raises:
        WeightsError: the weights are not available, or do not fit.
    """
    cut = deepest(cuts)
    if source.kind == "imagenet":
        return _pretrained(cuts, image_size)
    # Not on meta for other models: some have tensors that only the constructor computes, outside the state dict.
    named = cut.encoder in ENCODERS
    with random_state_of_its_own(derive_seed(source.seed, cut.encoder)):
        trunk = _prune(_timm_models.create(cut.spec.model, image_size, device="meta" if named else "cpu"), cuts)
    if source.path is not None:
        found = read_state_dict(source.path, source.part)
        state = _fitted(trunk, cut, image_size, found, f"weights {source} do not fit {cut}")
        trunk.load_state_dict(state, assign=True)
    elif named:
        trunk.load_state_dict(random_state(trunk, cut.encoder, source.seed), assign=True)
    return trunk


def tap_of(trunk: nn.Module, cut: EncoderCut) -> Tap:
    """Where the features of one of the cuts are found in the cut model."""
    layer, index = cut.spec.layers[cut.layer], cut.spec.position(cut.layer)
    if layer.part not in PROJECTIONS:
        return Tap(index, layer.part)
    ends_here = isinstance(trunk.get_submodule(layer.node), BlockInput)
    return Tap(index if ends_here else index - 1, layer.part, layer.node)


def run_trunk(trunk: nn.Module, images: Tensor, taps: Sequence[Tap]) -> list[Tensor]:
    """Normalised images ``(B, 3, H, W)`` to the features ``(B, C, h, w)`` of each tap."""
    indices = sorted({tap.index for tap in taps})
    prefix = {"return_prefix_tokens": True} if any(tap.part in TOKENS for tap in taps) else {}
    # stop_early: otherwise an unpruned model runs to its end; norm=False: the model's last norm is after the cut.
    found: list[Any] = cast(Any, trunk).forward_intermediates(
        images, indices=indices, norm=False, stop_early=True, output_fmt="NCHW", intermediates_only=True, **prefix)
    outputs = dict(zip(indices, found if prefix else [(output, None) for output in found], strict=True))
    return [_tapped(trunk, tap, *outputs[tap.index]) for tap in taps]


def _tapped(trunk: nn.Module, tap: Tap, output: Tensor, prefix: Tensor | None) -> Tensor:
    """The features of a tap, from an output ``(B, C, h, w)`` and the tokens before its patches, ``(B, N, C)``."""
    if tap.part in PROJECTIONS:
        return project(trunk.get_submodule(tap.block), output, tap.part)
    if prefix is None or not tap.part:
        return output
    first = 0 if trunk.cls_token is None else 1
    chosen = prefix[:, :1] if tap.part == "cls" else prefix[:, first:first + _timm_models.register_count(trunk)]
    return chosen.clone().flatten(1)[:, :, None, None]


def pass_of(cut: EncoderCut) -> str:
    """Equal for the cuts of an encoder whose features one pass gives, the same as those of each alone.

    A cut before a final norm has its own, because the layers behind it need the norm; so have the queries, keys and
    values of the first block, whose input timm gives only in place of the block's output.
    """
    layer = cut.spec.layers[cut.layer]
    if layer.skipped:
        return cut.layer
    return layer.node if layer.part in PROJECTIONS and cut.spec.position(cut.layer) == 0 else ""


def _prune(model: Any, cuts: Sequence[EncoderCut]) -> nn.Module:
    last = deepest(cuts)
    index = last.spec.position(last.layer)
    model.prune_intermediate_layers([index], prune_norm=True, prune_head=True)
    layers = [cut.spec.layers[cut.layer] for cut in cuts if cut.spec.position(cut.layer) == index]
    node = model.get_submodule(layers[0].node)
    if layers[0].skipped:
        setattr(node, layers[0].skipped, nn.Identity())
    elif all(layer.part in PROJECTIONS for layer in layers):
        model.set_submodule(layers[0].node, BlockInput(node))
    return cast(nn.Module, model)


def _pretrained(cuts: Sequence[EncoderCut], image_size: int) -> nn.Module:
    # Given a file, timm sends no request to the server; without a network, that takes most of a minute.
    cut = deepest(cuts)
    with cached_imagenet(cut) as path:
        read_state_dict(path)  # for an invalid file, our errors are clearer than timm's
        # Files on the hub are state dicts, also for models whose original files need a custom loader.
        overlay = {"file": str(path), "custom_load": False, "source": ""}
        # Built with its classifier, so that timm requires every tensor of the file.
        with random_state_of_its_own(seed=0):
            model = _timm_models.create(cut.spec.model, image_size, device="cpu", pretrained=True,
                                        pretrained_cfg_overlay=overlay)
        trunk = _prune(model, cuts)
        fit(trunk.state_dict(), trunk.state_dict(), f"they cannot be used for {cut}")
    return trunk


def _fitted(trunk: nn.Module, cut: EncoderCut, image_size: int, found: Mapping[str, Tensor], what: str
            ) -> dict[str, Tensor]:
    """The tensors that the trunk needs, from a checkpoint with timm's names or with names that timm can convert.

    Raises:
        WeightsError: neither fits; the message is that for timm's names.
    """
    needed = trunk.state_dict()
    named = _with_positions_resampled(trunk, below_prefix(needed, found, what))
    try:
        return fit(needed, named, what)
    except WeightsError:
        candidates = _converted(needed, cut, image_size, found)
        if not candidates:
            raise
    try:
        return fit(needed, candidates[one_of(candidates)], what)
    except NamesError as error:
        raise WeightsError(f"{what}: {error}") from error


def _with_positions_resampled(model: nn.Module, found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Resamples position embeddings and biases for another image size with timm's filter.

    Other results of the filter are not used: it also resizes patch embeddings, while a file for another patch size
    should be an error.
    """
    needed = model.state_dict()
    positions = [name for name in needed if "pos" in name and name in found and found[name].shape != needed[name].shape]
    if not positions:
        return found
    resampled = _filtered(model, found)
    return {**found, **{name: resampled[name] for name in positions if name in resampled}}


def _converted(needed: Mapping[str, Tensor], cut: EncoderCut, image_size: int, found: Mapping[str, Tensor]
               ) -> dict[str, dict[str, Tensor]]:
    """The needed tensors under each prefix from which timm's filter can convert them, for original checkpoints."""
    whole = _timm_models.create(cut.spec.model, image_size)
    candidates = {}
    for prefix in large_prefixes(found, len(needed) // 2):
        original = below(found, prefix)
        result = _filtered(whole, original)
        if all(name in result and result[name].shape == tensor.shape and not _is_resized(original.get(name), tensor)
               for name, tensor in needed.items() if not name.endswith(COUNTER)):
            candidates[prefix] = {name: result[name] for name in needed if name in result}
    return candidates


def _is_resized(original: Tensor | None, needed: Tensor) -> bool:
    """Whether the filter resized a convolution kernel: then the file is for another patch size."""
    return original is not None and original.ndim == needed.ndim == 4 and original.shape != needed.shape


def _filtered(model: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts a state dict to timm's names with the filter of the model's module; empty if that fails."""
    module = sys.modules[type(model).__module__]
    convert = next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
    if convert is None:
        return {}
    takes = inspect.signature(convert).parameters
    options = {}
    if "adapt_layer_scale" in takes and any("gamma_" in name for name in found):
        options["adapt_layer_scale"] = True  # names of DeiT III, for which timm sets this itself
    try:
        result = convert(dict(found), model, **options) if len(takes) > 1 else convert(dict(found))
    except Exception:  # filters raise any error for unknown checkpoints; the caller reports the misfit
        return {}
    return {name: tensor for name, tensor in result.items() if isinstance(tensor, Tensor)}
