"""Reading state dicts, and fitting them to the tensors that a cut encoder needs."""

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
from inversion.models.encoders.file_content import ForeignFileError, format_of
from inversion.text import reason

MOST_SHOWN = 4


def read_state_dict(path: Path, part: str = "") -> dict[str, Tensor]:
    """The tensors of a weights file, on the CPU, by name; the format is known by the content.

    Names in nested dicts are joined by dots (``teacher.conv1.weight``). Dicts around all tensors are taken off, and so
    are the prefixes that DistributedDataParallel and ``torch.compile`` put before every name. ``part`` says which
    tensors are meant, where there are several models: ``teacher``. The tensors may be mapped from the file: copy what
    is kept.

    Raises:
        WeightsError: the file cannot be read, holds no tensors or no such part, or holds code (nothing of it is run).
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
    """Copies of the tensors in ``found`` that ``needed`` asks for, in its types; what else is found does not matter.

    They may stand below one prefix of their names. BatchNorm's counters of batches, which have no part in the features,
    may be absent. ``what`` begins the message (``"weights x.pth do not fit vgg16:block1"``).

    Raises:
        WeightsError: a tensor is missing, has another shape, is there several times, or holds no usable numbers.
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
    """What is found below the prefix that the needed names have in it.

    Of several such prefixes those count below which the shapes fit too.

    Raises:
        WeightsError: it is left open which is meant.
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
        return load_file(path) if file_format == "safetensors" else read_pickle(path, file_format)
    except ForeignFileError as error:
        why = str(error)
    except RefusedObjectsError as error:
        names = ", ".join(error.names[:MOST_SHOWN])
        more = f" and {len(error.names) - MOST_SHOWN} more" if len(error.names) > MOST_SHOWN else ""
        convert = not looks_hostile(error.names)
        why = (f"it holds Python objects other than tensors: {names}{more}" if convert
               else f"unpickling it would call {names}{more}, which no weights need: do not trust it")
    except pickle.UnpicklingError as error:  # its own advice is to trust the file, which is not on offer
        convert = "Unsupported operand" in str(error)
        why = "it was saved with a pickle protocol other than PyTorch's own" if convert else "it is damaged"
    except OSError as error:
        why = error.strerror or str(error)
    except Exception as error:  # bytes that are no weights make a reader stumble in any way (IndexError was seen)
        why = f"it is damaged or cut short: {reason(error)}"
    advice = f". If you trust the file, convert it: {converting_line(path)}" if convert else ""
    raise WeightsError(f"weights {path} cannot be read ({why}): only plain state dicts, tensors by name, are{advice}")


def _special_kind(tensor: Tensor) -> str:
    """What keeps a tensor from being copied as it is, as a sentence's end; empty for an ordinary one."""
    if tensor.is_meta:
        return "has no numbers (it was saved from the meta device)"
    if tensor.is_quantized:
        return "is quantised: save that of the float model"
    if tensor.is_nested:  # it has no shape either
        return "is nested: save it as a plain tensor"
    return "" if tensor.layout == torch.strided else "is sparse: save it dense"


def _usable(name: str, tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    """A copy in the type that is needed.

    Raises:
        WeightsError: what it holds are no numbers of the needed kind, or none to compute with.
    """
    if dtype.is_floating_point and not tensor.is_floating_point():
        raise WeightsError(f"{what}: tensor {name!r} holds {str(tensor.dtype).removeprefix('torch.')} where "
                           f"floating-point numbers are needed")
    numbers = tensor.detach().to(dtype, copy=True).contiguous()
    if dtype.is_floating_point and not (finite := numbers.isfinite()).all():
        kind = "NaN" if numbers.isnan().any() else "infinite"
        count = numbers.numel() - int(finite.sum())
        raise WeightsError(f"{what}: {count} of {numbers.numel()} numbers of tensor {name!r} are {kind}: the file is "
                           "damaged, or its training had failed")
    if name.rpartition(".")[2] == "running_var" and (numbers < 0).any():
        raise WeightsError(f"{what}: tensor {name!r} has negative variances: the file is damaged")
    return numbers
