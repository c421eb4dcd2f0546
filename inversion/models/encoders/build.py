"""The encoder module: a pretrained model cut at a layer, with its weights, frozen, and the modifiers of its features.

::

    images (B, 3, S, S) in [0, 1]
      → (images − mean) / std                            (B, 3, S, S)
      → the pretrained model up to the cut               (B, C, S / stride, S / stride)
      → the modifiers, if there are any                  (B, C', h, w)

At S = 224, ``vgg16:block1`` gives (B, 64, 112, 112), ``resnet34:layer1`` and ``pvt_v2_b2:stage1`` (B, 64, 56, 56), and
``vit_small:block1`` its patch tokens as a map (B, 384, 14, 14).

Several cuts of one encoder with the same weights share the model, cut at the deepest, and its forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from inversion.images import Normalisation
from inversion.models import FeatureShape
from inversion.models.encoders.catalog import EncoderCut, outside_encoders
from inversion.models.encoders.imagenet import require_imagenet
from inversion.models.encoders.weights import WeightsSource
from inversion.models.modifiers._layers import Modifiers, Seeds, content_seeds

Run = Callable[[nn.Module, Tensor, Sequence[Any]], list[Tensor]]
"""A trunk, normalised images ``(B, 3, S, S)`` and taps, to the output ``(B, C, h, w)`` of each tap."""


class Encoder(nn.Module):
    """A frozen encoder: images ``(B, 3, S, S)`` in [0, 1], not normalised, to features ``(B, C, h, w)``.

    It normalises the images itself. Its parameters have no gradients, and it stays in eval mode even after ``train()``,
    so that BatchNorm statistics never change. Layers after the cut are not built. Modifiers that are measured on
    training images have to be calibrated first; their state is part of a checkpoint, unlike the trunk's.

    Args:
        cut: the cut.
        trunk: the cut model, which other encoders may share.
        run: applies the trunk to normalised images, for the outputs of one or more taps.
        tap: where the features are found in the trunk.
        normalisation: that of the images.
        raw_shape: the shape of the output, before the modifiers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, cut: EncoderCut, trunk: nn.Module, run: Run, tap: Any, normalisation: Normalisation,
                 raw_shape: FeatureShape) -> None:
        super().__init__()
        self.cut = cut
        self.tap = tap
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
    def forward(self, images: Tensor, seeds: Seeds | None = None, output: Tensor | None = None) -> Tensor:
        """Images ``(B, 3, S, S)`` in [0, 1] to features ``(B, C, h, w)``, without a gradient.

        ``seeds`` are those of the noise, if a modifier adds some; by default each image's own, from its content.
        ``output`` is that of the layer, if it is known already.
        """
        if seeds is None and self.modifiers.are_random:
            seeds = content_seeds(images)
        features: Tensor = self.modifiers(self._raw(images) if output is None else output, seeds)
        return features

    def differentiable(self, images: Tensor, output: Tensor | None = None) -> Tensor:
        """The same features, with gradients to images that require them, for inversion by optimisation.

        Noise is left out: these are the expected features, with which noisy ones are compared.
        """
        features: Tensor = self.modifiers(self._raw(images) if output is None else output)
        return features

    @torch.no_grad()
    def calibrate(self, batches: Sequence[Tensor]) -> None:
        """Measures the state of the modifiers on batches of images ``(B, 3, S, S)`` in [0, 1], keeping no features."""
        if self.modifiers.are_calibrated:
            self.modifiers.fit(lambda: ((self._raw(images), content_seeds(images)) for images in batches))

    def _raw(self, images: Tensor) -> Tensor:
        """The layer's output."""
        output, = self.outputs(images, [self.tap])
        return output

    def outputs(self, images: Tensor, taps: Sequence[Any]) -> list[Tensor]:
        """The outputs of one or more taps of the trunk, in one pass."""
        return self._run(self.trunk, (images - self.mean) / self.std, taps)

    def trunk_state(self) -> dict[str, Tensor]:
        """The tensors under their names in the original model; a file of them can be used as ``weights=FILE``."""
        return {name: tensor.detach() for name, tensor in self.trunk.state_dict().items()}


def encode(encoders: Sequence[Encoder], images: Tensor, seeds: Seeds | None = None) -> list[Tensor]:
    """Images ``(B, 3, S, S)`` in [0, 1] to the features of each encoder, as its call gives them.

    A trunk that several of them share is run once.
    """
    with torch.no_grad():
        outputs = _shared_outputs(encoders, images)
    return [encoder(images, seeds, output) for encoder, output in zip(encoders, outputs, strict=True)]


def encode_differentiably(encoders: Sequence[Encoder], images: Tensor) -> list[Tensor]:
    """The features of each encoder as ``Encoder.differentiable`` gives them; a trunk that they share is run once."""
    return [encoder.differentiable(images, output)
            for encoder, output in zip(encoders, _shared_outputs(encoders, images), strict=True)]


def _shared_outputs(encoders: Sequence[Encoder], images: Tensor) -> list[Tensor | None]:
    """The outputs of layers whose trunk several encoders share; None for the others."""
    found: list[Tensor | None] = [None] * len(encoders)
    for places in _alike([id(encoder.trunk) for encoder in encoders]):
        if len(places) > 1:
            outputs = encoders[places[0]].outputs(images, [encoders[place].tap for place in places])
            for place, output in zip(places, outputs, strict=True):
                found[place] = output
    return found


class EncoderRequest(NamedTuple):
    """What ``build_several`` builds an encoder from; ``normalisation`` replaces the encoder's own."""

    cut: EncoderCut
    source: WeightsSource
    normalisation: Normalisation | None = None


def build_several(requests: Sequence[EncoderRequest], image_size: int) -> list[Encoder]:
    """Builds encoders as ``build_encoder`` does, with its errors. Those that one pass can serve share their trunk."""
    built: dict[int, Encoder] = {}
    for places in _alike([_pass_of(request) for request in requests]):
        built.update(zip(places, _build_group([requests[place] for place in places], image_size), strict=True))
    return [built[place] for place in range(len(requests))]


def build_encoder(cut: EncoderCut, source: WeightsSource, image_size: int,
                  normalisation: Normalisation | None = None) -> Encoder:
    """Builds the encoder for images of side ``image_size``, on the CPU, in float32.

    ``normalisation`` replaces that of the encoder, as in the ``published`` protocol. The global random state is neither
    used nor changed.

    Raises:
        RequestError: the encoder or a modifier does not support this image size.
        WeightsError: the weights are not available, or do not fit; the message names the tensor.
    """
    encoder, = build_several([EncoderRequest(cut, source, normalisation)], image_size)
    return encoder


def _alike(keys: Iterable[Hashable]) -> Iterable[list[int]]:
    """The positions of equal keys."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return places.values()


def _pass_of(request: EncoderRequest) -> Hashable:
    """Equal for encoders that one pass can serve."""
    cut = request.cut
    if cut.spec.source == "torchvision":
        return cut.encoder, request.source, request.normalisation
    if cut.spec.source == "outside":  # a forward pass ends at the cut
        return cut.encoder, request.source, request.normalisation, cut.layer
    from inversion.models.encoders import _timm

    return cut.encoder, request.source, request.normalisation, _timm.pass_of(cut)


def _build_group(requests: Sequence[EncoderRequest], image_size: int) -> list[Encoder]:
    """Encoders of one trunk."""
    cuts, (first, source, normalisation) = [request.cut for request in requests], requests[0]
    spec = first.spec
    for cut in cuts:
        cut.shape(image_size)  # the encoder and the modifiers support this image size
    if source.kind == "imagenet":
        require_imagenet(first)
    own = spec.normalisation
    run: Run
    taps: list[Any]
    if spec.source == "outside":
        from inversion.models.encoders import _outside

        trunk, own = _outside_trunk(first, source)
        run, taps = _outside.run_taps, [cut.layer for cut in cuts]
    elif spec.source == "torchvision":
        from inversion.models.encoders import _torchvision

        trunk, run = _torchvision.build_trunk(cuts, source), _torchvision.run_trunk
        taps = [cut.layer for cut in cuts]
    else:
        from inversion.models.encoders import _timm

        trunk, run = _timm.build_trunk(cuts, source, image_size), _timm.run_trunk
        taps = [_timm.tap_of(trunk, cut) for cut in cuts]
    return [Encoder(cut, trunk, run, tap, normalisation or own, cut.raw_shape(image_size))
            for cut, tap in zip(cuts, taps, strict=True)]


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
