"""Export of a trained model to a self-contained folder: it loads without downloads or other files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inversion.errors import DamagedArtifactError, InversionError, WeightsError
from inversion.images import Normalisation
from inversion.models import part_files
from inversion.models.encoders import _timm_hub
from inversion.models.encoders.build import EncoderRequest, build_several
from inversion.models.encoders.catalog import EncoderCut
from inversion.models.encoders.specs import TIMM_PREFIX
from inversion.models.encoders.weights import WeightsSource
from inversion.models.model import InversionModel, build_model
from inversion.models.modifiers import parse_modifiers
from inversion.text import reason

DESCRIPTION, LEARNED = "model.json", "learned.safetensors"

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ImageSize = Annotated[int, Field(ge=32, le=1024, multiple_of=32)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Encoder(_Strict):
    """``file`` is a plain file name in the folder; paths are refused."""

    encoder: str
    layer: str
    modifiers: list[str] = []
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+\.safetensors$")]
    normalisation: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat], tuple[Deviation, Deviation, Deviation]]


class _Description(_Strict):
    """The content of ``model.json``."""

    encoders: Annotated[list[_Encoder], Field(min_length=1)]
    decoder: str
    options: dict[str, str]
    fusion: str | None
    fusion_options: dict[str, str] = {}
    image_size: ImageSize

    @property
    def parts(self) -> list[str]:
        """The names of its parts."""
        return [self.decoder, self.fusion or "", *(item.encoder for item in self.encoders)]


def pack_model(model: InversionModel, decoder: str, options: dict[str, str], fusion: str | None, image_size: int,
               folder: Path, fusion_options: Mapping[str, str] | None = None) -> None:
    """Writes a model: ``model.json``, the learned tensors, and a file of frozen weights per encoder.

    Encoders that share a trunk share its file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoders, files = [], dict[nn.Module, str]()
    for index, encoder in enumerate(model.frozen):
        file = files.setdefault(encoder.trunk, f"encoder{index}.safetensors")
        if file == f"encoder{index}.safetensors":
            save_file(_separate(encoder.trunk_state()), folder / file)
            _write_hub_config(encoder.cut, folder / file)
        encoders.append({"encoder": encoder.cut.encoder, "layer": encoder.cut.layer,
                         "modifiers": list(map(str, encoder.cut.modifiers)), "file": file,
                         "normalisation": encoder.normalisation})
    save_file(_separate(model.learned_state()), folder / LEARNED)
    description = {"encoders": encoders, "decoder": decoder, "options": options, "fusion": fusion,
                   "fusion_options": dict(fusion_options or {}), "image_size": image_size}
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2))
    parts = [decoder, fusion or "", *(encoder.cut.encoder for encoder in model.frozen)]
    for code in part_files.find_all(parts):
        (folder / code.artifact).parent.mkdir(parents=True)
        (folder / code.artifact).write_bytes(code.content)


def _write_hub_config(cut: EncoderCut, weights: Path) -> None:
    """Writes the ``config.json`` of a model of Hugging Face's hub beside its weights: the hub may be out of reach."""
    if _timm_hub.is_on_hub(cut.spec.model):
        config = _timm_hub.folder_of(cut.spec.model) / _timm_hub.CONFIG
        weights.with_suffix(".json").write_bytes(config.read_bytes())


def _read_hub_configs(description: _Description, folder: Path) -> None:
    for item in description.encoders:
        model = item.encoder.removeprefix(TIMM_PREFIX)
        if _timm_hub.is_on_hub(model):
            file = (folder / item.file).with_suffix(".json")
            try:
                _timm_hub.use_packed(model, file.read_bytes())
            except OSError as error:
                raise DamagedArtifactError(f"{file.name} is missing or cannot be read: {error.strerror or error}"
                                           ) from error


def _separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each with memory of its own, as the file format demands: parts may share weights."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in state.items():
        tensor = tensor.contiguous().cpu()
        memory = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return separate


def load_packed(folder: Path, trust_code: bool = False, whose: str = "the model") -> InversionModel:
    """Loads the model of a packed folder on the CPU, in eval mode.

    ``trust_code`` says that code in the folder may be executed, if the model has a part in a file of a user's own;
    ``whose`` is what messages about this call the model.

    Raises:
        UntrustedCodeError: it may not, and the file is not on this machine.
        DamagedArtifactError: a file is missing, damaged, or not as written by ``pack_model``; the message starts with
            the file's name.
    """
    description = _read_description(folder / DESCRIPTION)
    _read_hub_configs(description, folder)
    part_files.accept(description.parts, lambda part: _read_code(folder, part), trust_code, whose)
    try:
        model = _build(description, folder)
    except WeightsError as error:
        raise DamagedArtifactError(str(error).replace(f"{folder}/", "")) from error
    except (InversionError, RuntimeError, ValueError, TypeError, LookupError) as error:  # another version's decoder
        raise DamagedArtifactError(f"{DESCRIPTION} describes no model of this version: {reason(error)}") from error
    try:
        learned = load_file(folder / LEARNED)
        model.load_learned_state(learned)
    except (OSError, SafetensorError, RuntimeError, ValueError, LookupError) as error:
        raise DamagedArtifactError(f"{LEARNED} is missing, damaged, or of another model: {reason(error)}") from error
    if broken := [name for name, tensor in learned.items() if not torch.isfinite(tensor).all()]:
        raise DamagedArtifactError(f"{LEARNED} is damaged: {broken[0]} holds values that are not finite")
    return model.eval()


def _build(description: _Description, folder: Path) -> InversionModel:
    encoders = build_several([
        EncoderRequest(
            EncoderCut(item.encoder, item.layer, parse_modifiers(item.modifiers)),
            WeightsSource(item.encoder, "file", path=folder / item.file),
            Normalisation(*item.normalisation),
        )
        for item in description.encoders
    ], description.image_size)
    return build_model(encoders, description.decoder, description.options, description.fusion, description.image_size,
                       seed=0, fusion_options=description.fusion_options)


def _read_code(folder: Path, part: part_files.Reference) -> bytes:
    try:
        return (folder / part.artifact).read_bytes()
    except OSError as error:
        raise DamagedArtifactError(f"{part.artifact} is missing or cannot be read: {error.strerror or error}"
                                   ) from error


def _read_description(path: Path) -> _Description:
    try:
        return _Description.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DamagedArtifactError(f"{path.name} is missing or cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(map(str, detail["loc"]))
        raise DamagedArtifactError(f"{path.name} is damaged: {where + ': ' if where else ''}{detail['msg']}") from error
