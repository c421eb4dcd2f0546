"""Encoders from torchvision, cut with its feature extractor on the meta device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]
from torchvision.models.feature_extraction import create_feature_extractor  # type: ignore[import-untyped]

from inversion.models.encoders._random import random_state
from inversion.models.encoders.catalog import EncoderCut, deepest
from inversion.models.encoders.imagenet import cached_imagenet
from inversion.models.encoders.state_dict import fit, read_state_dict
from inversion.models.encoders.weights import WeightsSource


def build_trunk(cuts: Sequence[EncoderCut], source: WeightsSource) -> nn.Module:
    """Builds the model with one or more cuts, and its weights; tensors keep torchvision's names.

    Only the tensors before the deepest cut exist.

    Raises:
        WeightsError: the weights are not available, or do not fit.
    """
    cut = deepest(cuts)
    spec = cut.spec
    with torch.device("meta"):
        model = models.get_model(spec.model)
    trunk: nn.Module = create_feature_extractor(model, {spec.layers[each.layer].node: each.layer for each in cuts})
    needed = trunk.state_dict()
    if source.path is not None:
        state = fit(needed, read_state_dict(source.path, source.part), f"weights {source} do not fit {cut}")
    elif source.kind == "imagenet":
        with cached_imagenet(cut) as path:
            state = fit(needed, read_state_dict(path), f"torchvision's {spec.weights} does not fit {cut}")
    else:
        state = random_state(trunk, cut.encoder, source.seed)
    trunk.load_state_dict(state, assign=True)
    for name, module in list(trunk.named_modules()):
        if isinstance(module, nn.MaxPool2d) and (module.kernel_size, module.stride, module.padding) == (2, 2, 0):
            trunk.set_submodule(name, PairwiseMaxPool())
    return trunk


class PairwiseMaxPool(nn.Module):
    """MaxPool2d(2, 2) on CPUs as pairwise maxima: the same values, without the indices of the maxima.

    PyTorch's own layer also writes int64 indices for the backward pass, which a frozen encoder does not need. Inputs
    with gradients (inversion by optimisation) use PyTorch's layer, because the gradients differ at ties; so do other
    devices, on which this was not measured.
    """

    def forward(self, values: Tensor) -> Tensor:
        if values.requires_grad or values.device.type != "cpu":
            return nn.functional.max_pool2d(values, 2)
        height, width = (2 * (side // 2) for side in values.shape[-2:])
        rows = torch.maximum(values[:, :, 0:height:2], values[:, :, 1:height:2])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def run_trunk(trunk: nn.Module, images: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Normalised images ``(B, 3, H, W)`` to the features of each layer, ``(B, C, h, w)``."""
    features: dict[str, Tensor] = trunk(images)
    return [features[layer] for layer in layers]
