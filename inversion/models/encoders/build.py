"""Building encoders: a pretrained model cut at a layer, with its weights, frozen for good."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inversion.images import Normalisation
from inversion.models import FeatureShape
from inversion.models.encoders.catalog import EncoderCut
from inversion.models.encoders.imagenet import require_imagenet
from inversion.models.encoders.weights import WeightsSource


class Encoder(nn.Module):
    """A frozen encoder: images in [0, 1] ``(B, 3, S, S)``, not normalised, to features ``(B, C, h, w)``.

    It normalises inside. Its parameters take no gradients, it is always in eval mode (``train()`` leaves it there, so
    that BatchNorm statistics never move), and nothing behind the cut exists. ``trunk`` is the cut model, ``run`` turns
    it and normalised images into features.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, cut: EncoderCut, trunk: nn.Module, run: Callable[[nn.Module, Tensor], Tensor],
                 normalisation: Normalisation, feature_shape: FeatureShape) -> None:
        super().__init__()
        self.cut = cut
        self.normalisation = normalisation
        self.feature_shape = feature_shape
        self.trunk = trunk.requires_grad_(False)
        self._run = run
        # Buffers, so that they move with the module; constants of the build, so that no state dict holds them.
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1), persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> Encoder:
        """Stays in eval mode, whatever is asked."""
        return super().train(False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy stays in eval mode too: torchvision's cut model is in train mode after ``copy.deepcopy``."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.train(False)

    # Not inference mode: its tensors cannot be saved for a backward pass, as the decoder's first layer has to.
    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, S, S)`` in [0, 1] to features ``(B, C, h, w)``, without a gradient."""
        return self.differentiable(images)

    def differentiable(self, images: Tensor) -> Tensor:
        """The same features, with a gradient to the images where they ask for one (inversion by optimisation)."""
        return self._run(self.trunk, (images - self.mean) / self.std)

    def trunk_state(self) -> dict[str, Tensor]:
        """The cut's tensors under the original model's names: saved to a file, they serve as ``weights=FILE``."""
        return {name: tensor.detach() for name, tensor in self.trunk.state_dict().items()}


def build_encoder(cut: EncoderCut, source: WeightsSource, image_size: int,
                  normalisation: Normalisation | None = None) -> Encoder:
    """The encoder for square images of ``image_size``, on the CPU, in float32.

    ``normalisation`` replaces the encoder's own, as the ``published`` protocol does. The global random state is neither
    used nor changed.

    Raises:
        RequestError: the encoder does not work at this image size.
        WeightsError: the weights cannot be had, or do not fit; the message names the tensor.
    """
    spec = cut.spec
    shape = cut.shape(image_size)
    if source.kind == "imagenet":
        require_imagenet(cut)
    run: Callable[[nn.Module, Tensor], Tensor]
    if spec.source == "torchvision":
        from inversion.models.encoders import _torchvision

        trunk, run = _torchvision.build_trunk(cut, source), _torchvision.run_trunk
    else:
        from inversion.models.encoders import _timm

        trunk = _timm.build_trunk(cut, source, image_size)
        run = functools.partial(_timm.run_trunk, index=_timm.layer_index(cut))
    return Encoder(cut, trunk, run, normalisation or spec.normalisation, shape)
