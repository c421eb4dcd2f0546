"""Reading state dicts, and fitting them to the tensors that a cut encoder needs."""

from __future__ import annotations

import difflib
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from inversion.errors import WeightsError

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"
_REASON_LENGTH = 300


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors``, ``.pth`` or ``.pt`` file, on the CPU, by name.

    A checkpoint that holds its state dict under ``state_dict``, ``model_state_dict`` or ``model`` is unwrapped; the
    prefixes that DistributedDataParallel and ``torch.compile`` put before every name are taken off. The tensors may be
    mapped from the file: copy what is kept.

    Raises:
        WeightsError: the file cannot be read, holds no tensors, or holds code (nothing of it is run).
    """
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except Exception as error:  # bytes that are no weights make a reader stumble in any way (IndexError was seen)
        # The unpickler's own advice is to trust the file, which is not on offer.
        refused = isinstance(error, pickle.UnpicklingError)
        why = "it is damaged, or holds other Python objects" if refused else reason(error)
        raise WeightsError(f"weights {path} cannot be read ({why}): only plain state dicts, tensors by name, are"
                           ) from error
    tensors = _tensors(content)
    if not tensors:
        raise WeightsError(f"weights {path} holds no tensors by name: only plain state dicts are read")
    return _without_prefixes(tensors)


def fit(needed: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Copies of the tensors in ``found`` that ``needed`` asks for, in its types; what else is found does not matter.

    BatchNorm's counters of batches, which have no part in the features, may be absent. ``what`` begins the message
    (``"weights x.pth do not fit vgg16:block1"``).

    Raises:
        WeightsError: a tensor is missing or has another shape.
    """
    missing = [name for name in needed if name not in found and not name.endswith(_COUNTER)]
    if missing:
        message = f"{what}: tensor {missing[0]!r} {tuple(needed[missing[0]].shape)} is missing"
        message += f" ({len(missing)} of {len(needed)} are)."
        if nearest := difflib.get_close_matches(missing[0], list(found), n=1):
            message += f" Nearest name in it: {nearest[0]!r}."
        raise WeightsError(message)
    for name, tensor in needed.items():
        if name in found and found[name].shape != tensor.shape:
            raise WeightsError(f"{what}: tensor {name!r} has shape {tuple(found[name].shape)} where "
                               f"{tuple(tensor.shape)} is needed")
    return {name: found[name].to(tensor.dtype, copy=True).contiguous() if name in found
            else torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in needed.items()}


def reason(error: Exception) -> str:
    """An error of another library on one line, cut where it becomes a listing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]}…"


def _read_pickle(path: Path) -> Any:
    # Only files in the zip format, PyTorch's own since 1.6, can be mapped; a cut needs a small part of a large file.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _tensors(content[wrapper])
    return {name: tensor for name, tensor in content.items() if isinstance(name, str) and isinstance(tensor, Tensor)}


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            return _without_prefixes({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors
