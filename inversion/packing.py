"""A trained model as a folder that needs neither the network nor the files it was trained from."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from inversion.encoders.build import build_encoder
from inversion.encoders.catalog import EncoderCut
from inversion.encoders.weights import WeightsSource
from inversion.images import Normalisation
from inversion.model import InversionModel, build_model

DESCRIPTION, LEARNED = "model.json", "learned.safetensors"


def pack_model(model: InversionModel, decoder: str, options: dict[str, str], fusion: str | None, image_size: int,
               folder: Path) -> None:
    """Writes a model: ``model.json``, what was learned, and one file of frozen weights for each encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    encoders = []
    for index, encoder in enumerate(model.frozen):
        file = f"encoder{index}.safetensors"
        save_file({name: tensor.contiguous().cpu() for name, tensor in encoder.trunk_state().items()}, folder / file)
        encoders.append({"encoder": encoder.cut.encoder, "layer": encoder.cut.layer, "file": file,
                         "normalisation": encoder.normalisation})
    save_file({name: tensor.contiguous().cpu() for name, tensor in model.learned_state().items()}, folder / LEARNED)
    description = {"encoders": encoders, "decoder": decoder, "options": options, "fusion": fusion,
                   "image_size": image_size}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2))


def load_packed(folder: Path) -> InversionModel:
    """The model in a packed folder, on the CPU, in eval mode."""
    description = json.loads((folder / DESCRIPTION).read_text())
    size = description["image_size"]
    encoders = [
        build_encoder(
            EncoderCut(item["encoder"], item["layer"]),
            WeightsSource(item["encoder"], "file", path=folder / item["file"]),
            size,
            Normalisation(*map(tuple, item["normalisation"])),
        )
        for item in description["encoders"]
    ]
    model = build_model(encoders, description["decoder"], description["options"], description["fusion"], size, seed=0)
    model.load_learned_state(load_file(folder / LEARNED))
    return model.eval()
