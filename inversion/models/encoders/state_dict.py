"""Reading state dicts from files, and selecting the tensors that a cut encoder needs."""

from __future__ import annotations

import difflib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from inversion.errors import WeightsError
from inversion.models.encoders._names import (
    COUNTER,
    NamesError,
    below,
    flatten,
    one_of,
    part_of,
    prefixes_with,
    without_outer,
)
from inversion.models.encoders._unpickle import RefusedObjectsError, converting_line, looks_hostile, read_pickle
from inversion.models.encoders.file_content import ForeignFileError, format_of, require_whole
from inversion.text import first_of, reason

MOST_SHOWN = 4


def read_state_dict(path: Path, part: str = "") -> dict[str, Tensor]:
    """Reads the tensors of a weights file to the CPU, by name; the format is detected from the content.

    Names in nested dicts are joined by dots (``teacher.conv1.weight``). Dicts that contain all tensors are removed, and
    so are the prefixes that DistributedDataParallel and ``torch.compile`` add to every name. ``part`` selects one of
    several models in the file, such as ``teacher``. The tensors may be memory-mapped: copy those that you keep.

    Raises:
        WeightsError: the file cannot be read, has no tensors or no such part, or contains code, which is not run.
    """
    content = _read(path)
    try:
        found = flatten(content)
        if found and part:
            found = part_of(found, part)
    except NamesError as error:
        raise WeightsError(f"weights {path}: {error}") from error
    if not found:
        inside = "" if isinstance(content, Mapping) else f" but a {type(content).__name__}"
        raise WeightsError(f"weights {path} holds no tensors by name{inside}: only plain state dicts are read")
    return without_outer(found)


def fit(needed: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Copies the tensors of ``found`` with the names in ``needed``, with its dtypes; other tensors are ignored.

    The names in ``found`` may have a common prefix. BatchNorm's batch counters, which do not affect the features, may
    be missing. ``what`` starts the error message (``"weights x.pth do not fit vgg16:block1"``).

    Raises:
        WeightsError: a tensor is missing, has another shape, exists several times, or has unusable values.
    """
    found = below_prefix(needed, found, what)
    missing = [name for name in needed if name not in found and not name.endswith(COUNTER)]
    if missing:
        message = f"{what}: tensor {missing[0]!r} {tuple(needed[missing[0]].shape)} is missing"
        message += f" ({len(missing)} of {len(needed)} are)."
        if nearest := difflib.get_close_matches(missing[0], list(found), n=1):
            message += f" Nearest name in it: {nearest[0]!r}."
        raise WeightsError(message)
    for name, tensor in needed.items():
        if name in found and (kind := _special_kind(found[name])):
            raise WeightsError(f"{what}: tensor {name!r} {kind}")
        if name in found and found[name].shape != tensor.shape:
            raise WeightsError(f"{what}: tensor {name!r} has shape {tuple(found[name].shape)} where "
                               f"{tuple(tensor.shape)} is needed")
    return {name: _usable(name, found[name], tensor.dtype, what) if name in found
            else torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in needed.items()}


def below_prefix(needed: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str) -> Mapping[str, Tensor]:
    """The tensors under the prefix that the needed names have in ``found``.

    Of several such prefixes, those with fitting shapes are preferred.

    Raises:
        WeightsError: the prefix is ambiguous.
    """
    candidates = {prefix: below(found, prefix) for prefix in prefixes_with(needed, found)}
    if len(candidates) > 1:
        fitting = {prefix: names for prefix, names in candidates.items()
                   if all(not _special_kind(names[name]) and names[name].shape == tensor.shape
                          for name, tensor in needed.items() if name in names)}
        candidates = fitting or candidates
        try:
            chosen = one_of({prefix: {name: names[name] for name in needed if name in names}
                             for prefix, names in candidates.items()})
        except NamesError as error:
            raise WeightsError(f"{what}: {error}") from error
        return candidates[chosen]
    return next(iter(candidates.values()))


def _read(path: Path) -> Any:
    convert = False
    try:
        file_format = format_of(path)
        if file_format == "zip":
            require_whole(path)
        return load_file(path) if file_format == "safetensors" else read_pickle(path, file_format)
    except ForeignFileError as error:
        why = str(error)
    except RefusedObjectsError as error:
        names = first_of(error.names, MOST_SHOWN)
        convert = not looks_hostile(error.names)
        why = (f"it holds Python objects other than tensors: {names}" if convert
               else f"unpickling it would call {names}, which no weights need: do not trust it")
    except pickle.UnpicklingError as error:  # PyTorch's message advises to trust the file
        convert = "Unsupported operand" in str(error)
        why = "it was saved with a pickle protocol other than PyTorch's own" if convert else "it is damaged"
    except OSError as error:
        why = error.strerror or str(error)
    except Exception as error:  # readers raise any kind of error for damaged files (IndexError was seen)
        why = f"it is damaged or cut short: {reason(error)}"
    advice = f". If you trust the file, convert it: {converting_line(path)}" if convert else ""
    raise WeightsError(f"weights {path} cannot be read ({why}): only plain state dicts, tensors by name, are{advice}")


def _special_kind(tensor: Tensor) -> str:
    """Why a tensor cannot be copied as it is, as the end of a sentence; empty for an ordinary tensor."""
    if tensor.is_meta:
        return "has no numbers (it was saved from the meta device)"
    if tensor.is_quantized or (tensor.is_floating_point() and tensor.element_size() == 1):  # its scale is elsewhere
        return "is quantised: save that of the float model"
    if tensor.is_nested:  # it has no shape
        return "is nested: save it as a plain tensor"
    return "" if tensor.layout == torch.strided else "is sparse: save it dense"


def _usable(name: str, tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    """A copy of a tensor in the needed dtype.

    Raises:
        WeightsError: it is not floating-point where that is needed, or has NaN, infinite or impossible values, or only
            zeros as a weight.
    """
    if dtype.is_floating_point and not tensor.is_floating_point():
        raise WeightsError(f"{what}: tensor {name!r} holds {str(tensor.dtype).removeprefix('torch.')} where "
                           f"floating-point numbers are needed")
    numbers = tensor.detach().to(dtype, copy=True).contiguous()
    if dtype.is_floating_point and not (finite := numbers.isfinite()).all():
        count = numbers.numel() - int(finite.sum())
        if tensor.isfinite().all():
            raise WeightsError(f"{what}: {count} of {numbers.numel()} numbers of tensor {name!r} are too large for "
                               f"{str(dtype).removeprefix('torch.')}")
        kind = "NaN" if numbers.isnan().any() else "infinite"
        raise WeightsError(f"{what}: {count} of {numbers.numel()} numbers of tensor {name!r} are {kind}: the file is "
                           "damaged, or its training had failed")
    if name.rpartition(".")[2] == "running_var" and (numbers < 0).any():
        raise WeightsError(f"{what}: tensor {name!r} has negative variances: the file is damaged")
    if name.endswith(".weight") and numbers.ndim > 1 and not numbers.any():
        raise WeightsError(f"{what}: all numbers of tensor {name!r} are 0: the file is damaged, or its download was "
                           "not finished")
    return numbers
