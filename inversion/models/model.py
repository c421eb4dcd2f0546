"""The network of a run: frozen encoders → unit scale → [fusion] → decoder. A single run is an ensemble of one.

::

    images (B, 3, S, S) in [0, 1]
      → encoder i: normalise, frozen trunk          (B, Ci, hi, wi)
      → UnitScale: features / their root mean square (B, Ci, hi, wi)
      → fusion, for several encoders                (B, 256, H, W)
      → decoder                                     (B, 3, S, S) in [0, 1]
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.encoders.build import Encoder
from inversion.models.fusion import Fusion, fusions
from inversion.seeds import derive_seed


class UnitScale(nn.Module):
    """Features divided by their root mean square over a whole map: one number for each encoder.

    Features differ in scale by three orders of magnitude between encoders and layers, and a decoder's initialisation
    and learning rate fit one scale. The number is measured once on training images, before training, and kept in the
    checkpoint. One number, and no mean taken off: relative sizes and zeros of the channels belong to the encoder, and
    training goes as with the raw features wherever those have a sensible scale (docs/log.md).
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def fit(self, mean_square: float) -> None:
        """Sets the scale for features whose squares have this mean."""
        self.scale.fill_(max(math.sqrt(mean_square), 1e-6))

    def forward(self, features: Tensor) -> Tensor:
        return features / self.scale  # in the type that the encoder computed them in


class InversionModel(nn.Module):
    """Images ``(B, 3, S, S)`` in [0, 1] to reconstructions of the same shape and range."""

    def __init__(self, encoders: Sequence[Encoder], fusion: Fusion | None, decoder: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.scales = nn.ModuleList(UnitScale() for _ in encoders)
        self.fusion = fusion
        self.decoder = decoder

    @property
    def frozen(self) -> list[Encoder]:
        """The encoders, in the order of the request."""
        return [cast(Encoder, encoder) for encoder in self.encoders]

    def encode(self, images: Tensor) -> list[Tensor]:
        """Raw feature maps, one an encoder, without gradients."""
        return [encoder(images) for encoder in self.frozen]

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Raw feature maps to images in [0, 1]; gradients flow from here on."""
        scaled = [layer(values) for layer, values in zip(self.scales, features, strict=True)]
        fused = scaled[0] if self.fusion is None else self.fusion(scaled)
        images: Tensor = self.decoder(fused)
        return images

    def forward(self, images: Tensor, features: Sequence[Tensor] | None = None) -> Tensor:
        """Images to reconstructions; ``features`` are the raw maps, where they were computed before."""
        return self.decode(self.encode(images) if features is None else features)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measures the features' scale on images ``(B, 3, S, S)`` in [0, 1], of which no map is kept."""
        squares, numbers = [0.0] * len(self.scales), [0] * len(self.scales)
        for batch in batches:
            for index, features in enumerate(self.encode(batch)):
                squares[index] += float(torch.linalg.vector_norm(features, dtype=torch.float64)) ** 2
                numbers[index] += features.numel()
        for layer, square, number in zip(self.scales, squares, numbers, strict=True):
            cast(UnitScale, layer).fit(square / number)

    def trainable(self) -> list[nn.Parameter]:
        """The parameters of decoder and fusion, in a fixed order."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def learned_state(self) -> dict[str, Tensor]:
        """State dict without the frozen encoders: all that a checkpoint needs."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("encoders.")}

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Puts a ``learned_state`` back.

        Raises:
            RuntimeError: a tensor is missing, unknown (an encoder's too), misshapen or of another type.
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
    options: dict[str, str],
    fusion: str | None,
    image_size: int,
    seed: int,
) -> InversionModel:
    """The model of a run, initialised from its seed alone; the global random state is left as it was.

    Raises:
        UnknownNameError: unknown decoder, option or fusion.
        RequestError: an option that does not fit.
    """
    decoder_type = decoders.get(decoder)
    parsed = parse_decoder_options(decoder, decoder_type.OptionsType, options)
    shapes = [encoder.feature_shape for encoder in encoders]
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would reseed the GPUs as well, and fork_rng does not bring their state back
        torch.default_generator.manual_seed(derive_seed(seed, "initialisation"))
        merged = fusions.get(fusion)(shapes) if fusion else None
        built = decoder_type(merged.fused if merged else shapes[0], image_size, parsed)
    return InversionModel(encoders, merged, built)
