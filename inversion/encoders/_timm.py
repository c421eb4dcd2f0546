"""timm's models, cut by its own pruning and run by its own feature interface.

``forward_intermediates`` gives every architecture's features as maps (B, C, h, w), also transformers' tokens, and
``prune_intermediate_layers`` removes what is behind the cut; parameter names stay those of the whole model, unlike with
``features_only``. Where branches of different resolution run side by side (HRNet, CrossViT), timm's pruning keeps the
parts of a layer that feed the other branches.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from inversion.encoders import _timm_models
from inversion.encoders._random import random_state
from inversion.encoders.catalog import ENCODERS, EncoderCut
from inversion.encoders.imagenet import cached_file, imagenet_location
from inversion.encoders.state_dict import fit, read_state_dict, reason
from inversion.encoders.weights import WeightsSource
from inversion.errors import WeightsError
from inversion.seeds import derive_seed


def build_trunk(cut: EncoderCut, source: WeightsSource, image_size: int) -> nn.Module:
    """The cut model with its weights, for square images of one size; tensors keep timm's names.

    Random weights of ``timm/NAME`` are the model's own initialisation of the whole model, in a random state made from
    the seed alone: a layer's weights are the same wherever the cut is, but not for another image size where the model
    has position embeddings, nor necessarily for another version of timm or PyTorch.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
    """
    if source.kind == "imagenet":
        return _prune(_pretrained(cut, image_size), cut)
    # Other models may hold tensors that no state dict has, and that only the constructor can make: not on meta.
    named = cut.encoder in ENCODERS
    with _random_state_of_its_own(derive_seed(source.seed, cut.encoder)):
        trunk = _prune(_timm_models.create(cut.spec.model, image_size, device="meta" if named else "cpu"), cut)
    if source.path is not None:
        found = _with_positions_resampled(trunk, read_state_dict(source.path))
        state = fit(trunk.state_dict(), found, f"weights {source.path} do not fit {cut}")
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
    location = imagenet_location(cut.encoder)
    cached = cached_file(location) if location.repo else None
    # Given the cached file, timm does not ask the server about it, which takes most of a minute without a network.
    # Files of the hub are state dicts, also of models whose original files need a loader of their own.
    overlay = {"file": str(cached), "custom_load": False} if cached else {}
    try:
        # With the classifier that the weights were trained with: timm then insists that every tensor is in the file.
        with _random_state_of_its_own(seed=0):
            return _timm_models.create(cut.spec.model, image_size, device="cpu", pretrained=True,
                                       pretrained_cfg_overlay=overlay)
    except Exception as error:  # downloads, files and unpicklers fail in too many ways to list
        raise WeightsError(f"ImageNet weights of {cut.encoder} (timm's {cut.spec.weights}) cannot be loaded: "
                           f"{reason(error)}") from error


@contextmanager
def _random_state_of_its_own(seed: int) -> Iterator[None]:
    """timm initialises from PyTorch's global generator: lend it a fresh one, and give the caller's back."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the GPUs' generators too, and those are not given back.
        torch.default_generator.manual_seed(seed)
        yield


def _with_positions_resampled(model: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Position embeddings and biases of another image size, brought to the model's by timm's own filter.

    Of what the filter returns only these are taken: it would also resize patch embeddings, and a file for another patch
    size should be an error.
    """
    needed = model.state_dict()
    positions = [name for name in needed if "pos" in name and name in found and found[name].shape != needed[name].shape]
    resample = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if not positions or resample is None:
        return found
    try:
        resampled = resample(dict(found), model)
    except Exception:  # not resizable, in whatever way: the mismatch is then reported as such
        return found
    return found | {name: resampled[name] for name in positions if name in resampled}
