"""The encoder module: a pretrained model cut at a layer, with its weights, frozen, and the modifiers of its features.

::

    images (B, 3, S, S) in [0, 1]
      → (images − mean) / std                            (B, 3, S, S)
      → the pretrained model up to the cut               (B, C, S / stride, S / stride)
      → the modifiers, if there are any                  (B, C', h, w)

At S = 224, ``vgg16:block1`` gives (B, 64, 112, 112), ``resnet34:layer1`` and ``pvt_v2_b2:stage1`` (B, 64, 56, 56), and
``vit_small:block1`` its patch tokens as a map (B, 384, 14, 14).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inversion.images import Normalisation
from inversion.models import FeatureShape
from inversion.models.encoders.catalog import EncoderCut, outside_encoders
from inversion.models.encoders.imagenet import require_imagenet
from inversion.models.encoders.weights import WeightsSource
from inversion.models.modifiers._layers import Modifiers, Seeds, content_seeds


class Encoder(nn.Module):
    """A frozen encoder: images ``(B, 3, S, S)`` in [0, 1], not normalised, to features ``(B, C, h, w)``.

    It normalises the images itself. Its parameters have no gradients, and it stays in eval mode even after ``train()``,
    so that BatchNorm statistics never change. Layers after the cut are not built. ``trunk`` is the cut model; ``run``
    applies it to normalised images; ``raw_shape`` is the shape of its output. Modifiers that are measured on training
    images have to be calibrated first; their state is part of a checkpoint, unlike the trunk's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, cut: EncoderCut, trunk: nn.Module, run: Callable[[nn.Module, Tensor], Tensor],
                 normalisation: Normalisation, raw_shape: FeatureShape) -> None:
        super().__init__()
        self.cut = cut
        self.normalisation = normalisation
        self.modifiers = Modifiers(cut.modifiers, raw_shape, f"noise of {cut}")
        self.feature_shape = self.modifiers.shape
        self.trunk = trunk.requires_grad_(False)
        self._run = run
        # Buffers, so that they move with the module; not persistent, since they are constants.
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1), persistent=False)
        self.train(False)

    def train(self, mode: bool = True) -> Encoder:
        """Stays in eval mode for any ``mode``."""
        return super().train(False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Keeps copies in eval mode: torchvision's cut model is in train mode after ``copy.deepcopy``."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.train(False)

    # Not inference mode: the decoder's first layer could not save such tensors for its backward pass.
    @torch.no_grad()
    def forward(self, images: Tensor, seeds: Seeds | None = None) -> Tensor:
        """Images ``(B, 3, S, S)`` in [0, 1] to features ``(B, C, h, w)``, without a gradient.

        ``seeds`` are those of the noise, if a modifier adds some; by default each image's own, from its content.
        """
        if seeds is None and self.modifiers.are_random:
            seeds = content_seeds(images)
        features: Tensor = self.modifiers(self._raw(images), seeds)
        return features

    def differentiable(self, images: Tensor) -> Tensor:
        """The same features, with gradients to images that require them, for inversion by optimisation.

        Noise is left out: these are the expected features, with which noisy ones are compared.
        """
        features: Tensor = self.modifiers(self._raw(images))
        return features

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Measures the state of the modifiers on batches of images ``(B, 3, S, S)`` in [0, 1], keeping no features."""
        if self.modifiers.are_calibrated:
            self.modifiers.fit(lambda: ((self._raw(images), content_seeds(images)) for images in batches))

    def _raw(self, images: Tensor) -> Tensor:
        """The layer's output."""
        return self._run(self.trunk, (images - self.mean) / self.std)

    def trunk_state(self) -> dict[str, Tensor]:
        """The tensors under their names in the original model; a file of them can be used as ``weights=FILE``."""
        return {name: tensor.detach() for name, tensor in self.trunk.state_dict().items()}


def build_encoder(cut: EncoderCut, source: WeightsSource, image_size: int,
                  normalisation: Normalisation | None = None) -> Encoder:
    """Builds the encoder for images of side ``image_size``, on the CPU, in float32.

    ``normalisation`` replaces that of the encoder, as in the ``published`` protocol. The global random state is neither
    used nor changed.

    Raises:
        RequestError: the encoder or a modifier does not support this image size.
        WeightsError: the weights are not available, or do not fit; the message names the tensor.
    """
    spec = cut.spec
    cut.shape(image_size)  # the encoder and the modifiers support this image size
    if source.kind == "imagenet":
        require_imagenet(cut)
    own = spec.normalisation
    run: Callable[[nn.Module, Tensor], Tensor]
    if spec.source == "outside":
        from inversion.models.encoders import _outside

        trunk, own = _outside_trunk(cut, source)
        run = functools.partial(_outside.run_trunk, layer=cut.layer)
    elif spec.source == "torchvision":
        from inversion.models.encoders import _torchvision

        trunk, run = _torchvision.build_trunk(cut, source), _torchvision.run_trunk
    else:
        from inversion.models.encoders import _timm

        trunk = _timm.build_trunk(cut, source, image_size)
        run = functools.partial(_timm.run_trunk, index=_timm.layer_index(cut))
    return Encoder(cut, trunk, run, normalisation or own, cut.raw_shape(image_size))


def _outside_trunk(cut: EncoderCut, source: WeightsSource) -> tuple[nn.Module, Normalisation]:
    """The module of an encoder from outside with its weights, and its normalisation.

    Raises:
        RequestError: its code fails, or its normalisation is none.
        WeightsError: a file of weights cannot be read, or does not fit.
    """
    from inversion.models.encoders.state_dict import fit, read_state_dict

    encoder = outside_encoders.get(cut.encoder)
    trunk = encoder.make(pretrained=source.kind == "own", seed=source.seed)
    if source.path is not None:
        trunk.load_state_dict(fit(trunk.state_dict(), read_state_dict(source.path, source.part),
                                  f"weights {source} do not fit {cut.encoder}"))
    return trunk, encoder.normalisation(trunk)
