"""timm's models, cut by its own pruning and run by its own feature interface.

``forward_intermediates`` gives every architecture's features as maps (B, C, h, w), also transformers' tokens, and
``prune_intermediate_layers`` removes what is behind the cut; parameter names stay those of the whole model, unlike with
``features_only``. Where branches of different resolution run side by side (HRNet, CrossViT), timm's pruning keeps the
parts of a layer that feed the other branches.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from inversion.errors import WeightsError
from inversion.models.encoders import _timm_models
from inversion.models.encoders._names import COUNTER, NamesError, below, large_prefixes, one_of
from inversion.models.encoders._random import random_state
from inversion.models.encoders.catalog import ENCODERS, EncoderCut
from inversion.models.encoders.imagenet import cached_imagenet
from inversion.models.encoders.state_dict import below_prefix, fit, read_state_dict
from inversion.models.encoders.weights import WeightsSource
from inversion.seeds import derive_seed

_FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
"""What timm's modules call the functions that turn original checkpoints into theirs."""


def build_trunk(cut: EncoderCut, source: WeightsSource, image_size: int) -> nn.Module:
    """The cut model with its weights, for square images of one size; tensors keep timm's names.

    Random weights of ``timm/NAME`` are the model's own initialisation of the whole model, in a random state made from
    the seed alone: a layer's weights are the same wherever the cut is, but not for another image size where the model
    has position embeddings, nor necessarily for another version of timm or PyTorch.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
    """
    if source.kind == "imagenet":
        return _pretrained(cut, image_size)
    # Other models may hold tensors that no state dict has, and that only the constructor can make: not on meta.
    named = cut.encoder in ENCODERS
    with _random_state_of_its_own(derive_seed(source.seed, cut.encoder)):
        trunk = _prune(_timm_models.create(cut.spec.model, image_size, device="meta" if named else "cpu"), cut)
    if source.path is not None:
        found = read_state_dict(source.path, source.part)
        state = _fitted(trunk, cut, image_size, found, f"weights {source} do not fit {cut}")
        trunk.load_state_dict(state, assign=True)
    elif named:
        trunk.load_state_dict(random_state(trunk, cut.encoder, source.seed), assign=True)
    return trunk


def run_trunk(trunk: nn.Module, images: Tensor, index: int) -> Tensor:
    """Normalised images ``(B, 3, H, W)`` to the features at the cut ``(B, C, h, w)``."""
    # Without stop_early an unpruned model would run to its end; norm is that of the whole model, behind the cut.
    features: list[Tensor] = cast(Any, trunk).forward_intermediates(
        images, indices=[index], norm=False, stop_early=True, output_fmt="NCHW", intermediates_only=True)
    return features[0]


def layer_index(cut: EncoderCut) -> int:
    """The layer's number in timm's feature interface: its place among the model's layers."""
    return list(cut.spec.layers).index(cut.layer)


def _prune(model: Any, cut: EncoderCut) -> nn.Module:
    model.prune_intermediate_layers([layer_index(cut)], prune_norm=True, prune_head=True)
    return cast(nn.Module, model)


def _pretrained(cut: EncoderCut, image_size: int) -> nn.Module:
    # Given the file, timm does not ask the server about it, which takes most of a minute without a network.
    with cached_imagenet(cut) as path:
        read_state_dict(path)  # of a file that is none, timm's errors do not say what it is
        # Files of the hub are state dicts, also of models whose original files need a loader of their own.
        overlay = {"file": str(path), "custom_load": False}
        # With the classifier that the weights were trained with: timm then insists that every tensor is in the file.
        with _random_state_of_its_own(seed=0):
            model = _timm_models.create(cut.spec.model, image_size, device="cpu", pretrained=True,
                                        pretrained_cfg_overlay=overlay)
        trunk = _prune(model, cut)
        fit(trunk.state_dict(), trunk.state_dict(), f"they cannot be used for {cut}")
    return trunk


@contextmanager
def _random_state_of_its_own(seed: int) -> Iterator[None]:
    """timm initialises from PyTorch's global generator: lend it a fresh one, and give the caller's back."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the GPUs' generators too, and those are not given back.
        torch.default_generator.manual_seed(seed)
        yield


def _fitted(trunk: nn.Module, cut: EncoderCut, image_size: int, found: Mapping[str, Tensor], what: str
            ) -> dict[str, Tensor]:
    """What the trunk needs of a checkpoint in timm's names, or else in others that timm's own filter knows.

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
    """Position embeddings and biases of another image size, brought to the model's by timm's own filter.

    Of what the filter returns only these are taken: it would also resize patch embeddings, and a file for another patch
    size should be an error.
    """
    needed = model.state_dict()
    positions = [name for name in needed if "pos" in name and name in found and found[name].shape != needed[name].shape]
    if not positions:
        return found
    resampled = _filtered(model, found)
    return {**found, **{name: resampled[name] for name in positions if name in resampled}}


def _converted(needed: Mapping[str, Tensor], cut: EncoderCut, image_size: int, found: Mapping[str, Tensor]
               ) -> dict[str, dict[str, Tensor]]:
    """The needed tensors below each prefix where timm's filter finds them: checkpoints of the original authors."""
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
    """Whether a filter made a kernel of another size fit: the file is for another patch size."""
    return original is not None and original.ndim == needed.ndim == 4 and original.shape != needed.shape


def _filtered(model: nn.Module, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in timm's names by the filter of the model's module; nothing where that cannot."""
    module = sys.modules[type(model).__module__]
    convert = next((getattr(module, name) for name in _FILTERS if hasattr(module, name)), None)
    if convert is None:
        return {}
    takes = inspect.signature(convert).parameters
    options = {}
    if "adapt_layer_scale" in takes and any("gamma_" in name for name in found):
        options["adapt_layer_scale"] = True  # the names of DeiT III, for which timm gives this itself
    try:
        result = convert(dict(found), model, **options) if len(takes) > 1 else convert(dict(found))
    except Exception:  # not a checkpoint that it knows, in whatever way: what does not fit is then reported as such
        return {}
    return {name: tensor for name, tensor in result.items() if isinstance(tensor, Tensor)}
