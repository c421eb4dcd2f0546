"""The model of a run: frozen encoders → unit scale → [fusion] → decoder. One encoder is an ensemble of one.

::

    images (B, 3, S, S) in [0, 1]
      → encoder i: normalise, frozen trunk, modifiers (B, Ci, hi, wi)
      → UnitScale: features / their root mean square  (B, Ci, hi, wi)
      → fusion, for several encoders                  (B, 256, H, W)
      → decoder                                       (B, 3, S, S) in [0, 1]
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from inversion.errors import NonFiniteError
from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.encoders.build import Encoder, encode
from inversion.models.fusion import Fusion, fusions
from inversion.models.fusion._outside import merged_shape
from inversion.models.modifiers._layers import Seeds
from inversion.models.options import parse_part_options
from inversion.seeds import derive_seed

_FROZEN = re.compile(r"encoders\.\d+\.(?!modifiers\.)")
"""Names of the encoders' tensors, except the calibrated state of modifiers."""


class UnitScale(nn.Module):
    """Divides features by their root mean square, one scalar per encoder; the shape stays ``(B, C, h, w)``.

    The scale of features differs by three orders of magnitude between encoders and layers, while the decoders'
    initialisation and learning rate suit one scale. The scalar is measured on training images before training, and
    stored in the checkpoint. It is one scalar, without a mean, so that the relative scale of channels and their zeros
    stay as the encoder made them; features of a usual scale then train as without it (docs/log.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def fit(self, mean_square: float) -> None:
        """Sets the scale to the square root of ``mean_square``, at least 1e-6."""
        self.scale.fill_(max(math.sqrt(mean_square), 1e-6))

    def forward(self, features: Tensor) -> Tensor:
        return features / self.scale  # in the dtype of the encoder's output


class InversionModel(nn.Module):
    """Maps images ``(B, 3, S, S)`` in [0, 1] to reconstructions of the same shape and range."""

    def __init__(self, encoders: Sequence[Encoder], fusion: nn.Module | None, decoder: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.scales = nn.ModuleList(UnitScale() for _ in encoders)
        self.fusion = fusion
        self.decoder = decoder

    @property
    def frozen(self) -> list[Encoder]:
        """The encoders, in the order of the parameter ``encoder``."""
        return [cast(Encoder, encoder) for encoder in self.encoders]

    def encode(self, images: Tensor, seeds: Seeds | None = None) -> list[Tensor]:
        """Images to feature maps before the unit scale, one ``(B, Ci, hi, wi)`` per encoder, without gradients.

        Encoders that differ only in their cut are run once.

        ``seeds``, one per image, are those of the noise that modifiers add; by default they come from the images.
        """
        return encode(self.frozen, images, seeds)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Feature maps to images ``(B, 3, S, S)`` in [0, 1], with gradients to fusion and decoder."""
        scaled = [layer(values) for layer, values in zip(self.scales, features, strict=True)]
        fused = scaled[0] if self.fusion is None else self.fusion(scaled)
        images: Tensor = self.decoder(fused)
        return images.float()  # a decoder from outside may give what autocast computes in

    def forward(self, images: Tensor, features: Sequence[Tensor] | None = None) -> Tensor:
        """Images to reconstructions; ``features`` are their feature maps if already computed."""
        return self.decode(self.encode(images) if features is None else features)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Fits the modifiers, then the unit scales, on batches of images ``(B, 3, S, S)`` in [0, 1].

        No features are kept.

        Raises:
            NonFiniteError: the features of an encoder are not finite.
        """
        if any(encoder.modifiers.are_calibrated for encoder in self.frozen):
            batches = list(batches)
            for encoder in self.frozen:
                encoder.calibrate(batches)
        squares, numbers = [0.0] * len(self.scales), [0] * len(self.scales)
        for batch in batches:
            for index, features in enumerate(self.encode(batch)):
                squares[index] += float(torch.linalg.vector_norm(features, dtype=torch.float64)) ** 2
                numbers[index] += features.numel()
        for encoder, layer, square, number in zip(self.frozen, self.scales, squares, numbers, strict=True):
            if not math.isfinite(square):
                raise NonFiniteError(f"the features of {encoder.cut} are not finite, before any training: its weights "
                                     "are damaged, or too large for the precision")
            cast(UnitScale, layer).fit(square / number)

    def trainable(self) -> list[nn.Parameter]:
        """The parameters of decoder and fusion, in a fixed order."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def count_trainable(self) -> int:
        """The number of values in ``trainable``, logged as ``decoder_parameters``."""
        return sum(parameter.numel() for parameter in self.trainable())

    def learned_state(self) -> dict[str, Tensor]:
        """The state dict without the frozen trunks, as in checkpoints."""
        return {name: value for name, value in self.state_dict().items() if not _FROZEN.match(name)}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Loads a ``learned_state``.

        Raises:
            RuntimeError: a tensor is missing, unexpected (such as an encoder's), or of another shape or dtype.
        """
        own = self.learned_state()
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise RuntimeError(f"checkpoint does not fit the model: missing {missing}, unexpected {unexpected}")
        for name, tensor in own.items():
            if state[name].dtype != tensor.dtype:
                raise RuntimeError(f"checkpoint does not fit the model: {name} is {state[name].dtype}, and not "
                                   f"{tensor.dtype}")
        self.load_state_dict(state, strict=False)


def build_model(
    encoders: Sequence[Encoder],
    decoder: str,
    options: Mapping[str, str],
    fusion: str | None,
    image_size: int,
    seed: int,
    fusion_options: Mapping[str, str] | None = None,
) -> InversionModel:
    """Builds the model of a run, initialised from ``seed`` alone; the global random state does not change.

    Raises:
        UnknownNameError: unknown decoder, fusion or option.
        RequestError: an invalid value of an option.
    """
    decoder_type = decoders.get(decoder)
    parsed = parse_decoder_options(decoder, decoder_type.OptionsType, options)
    shapes = [encoder.feature_shape for encoder in encoders]
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the GPUs too, and this fork_rng does not restore their state
        torch.default_generator.manual_seed(derive_seed(seed, "initialisation"))
        merged, features = build_fusion(fusion, fusion_options or {}, shapes) if fusion else (None, shapes[0])
        built = decoder_type.build(features, image_size, parsed)
    return InversionModel(encoders, merged, built)


def build_fusion(name: str, options: Mapping[str, str], shapes: Sequence[FeatureShape]
                 ) -> tuple[nn.Module, FeatureShape]:
    """A fusion for maps of these shapes, and the shape of the map into which it merges them.

    Raises:
        UnknownNameError: unknown fusion or option.
        RequestError: an invalid value of an option, or the code of a fusion from outside fails.
    """
    fusion_type = fusions.get(name)
    built: nn.Module = fusion_type.build(shapes, parse_part_options("fusion", name, fusion_type.OptionsType, options))
    return built, built.fused if isinstance(built, Fusion) else merged_shape(name, built, shapes)


def fused_shape(fusion: str, options: Mapping[str, str], shapes: Sequence[FeatureShape]) -> FeatureShape:
    """The shape of the map into which a fusion of this package merges maps of these shapes."""
    with torch.device("meta"):
        return build_fusion(fusion, options, shapes)[1]
