"""Parameter counts of all combinations of the study, stored in a file so that ``inversion list`` is fast.

``inversion list --recount`` writes the file; a test compares it with new counts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from inversion.models.decoders import decoders
from inversion.models.encoders.catalog import ENCODERS, ENSEMBLE, EncoderCut
from inversion.models.fusion import fusions

if TYPE_CHECKING:
    from inversion.models.fusion import Fusion

FILE = Path(__file__).with_name("parameter_counts.json")
IMAGE_SIZE = 224

Counts = dict[str, dict[str, int]]
"""Trainable parameters by encoder layer (or ``ensemble+FUSION``) and decoder, at ``IMAGE_SIZE``."""


def shipped_counts() -> Counts:
    """The counts in the package; combinations that were added since are missing."""
    counts: Counts = json.loads(FILE.read_text()) if FILE.is_file() else {}
    return counts


def count_parameters() -> Counts:
    """Counts the parameters of every combination, built on PyTorch's meta device."""
    import torch

    def size(fusion: Fusion | None, shape_index: int, decoder: str) -> int:
        decoder_type = decoders.get(decoder)
        shape = fusion.fused if fusion else shapes[shape_index]
        built = decoder_type.build(shape, IMAGE_SIZE, decoder_type.OptionsType())
        modules = [built, fusion] if fusion else [built]
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    # parts of layers are not of the study
    cuts = [EncoderCut(name, layer) for name, spec in ENCODERS.items() for layer, known in spec.layers.items()
            if not known.part]
    shapes = [cut.shape(IMAGE_SIZE) for cut in cuts]
    with torch.device("meta"):
        counts = {str(cut): {decoder: size(None, index, decoder) for decoder in decoders.ours()}
                  for index, cut in enumerate(cuts)}
        for name in fusions.ours():
            fusion = fusions.get(name)([cut.shape(IMAGE_SIZE) for cut in ENSEMBLE])
            counts[f"ensemble+{name}"] = {decoder: size(fusion, 0, decoder) for decoder in decoders.ours()}
    return counts


def write_counts() -> None:
    """Counts again and replaces the file in the package."""
    FILE.write_text(json.dumps(count_parameters(), indent=1) + "\n")
