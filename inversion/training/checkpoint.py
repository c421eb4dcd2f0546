"""Checkpoints: written atomically, read without executing code from the file, and checked before a run is resumed.

A checkpoint holds state dicts and plain data. All of it is checked against the model before anything is loaded: a run
with a partly loaded state would continue with wrong numbers.
"""

from __future__ import annotations

import dataclasses
import io
import logging
import math
import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from inversion.errors import InversionError
from inversion.training.schedule import Schedule
from inversion.training.state import TrainingState

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"

_logger = logging.getLogger(__name__)


class CheckpointError(InversionError):
    """A checkpoint cannot be written, read or used."""

    kind = "checkpoint"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes ``content`` (tensors and plain data) atomically.

    Raises:
        CheckpointError: the folder is read-only or full; an earlier file at ``path`` is intact.
    """
    serialised = io.BytesIO()  # in memory first: for a full disk, torch raises a RuntimeError that may not say so
    torch.save({"format": FORMAT, **content}, serialised)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(serialised.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error


def furthest_checkpoint(paths: Sequence[Path], require: Callable[[Path], object] = lambda path: None) -> Path:
    """The ``last.pt`` with the most steps among those that can be used.

    Args:
        paths: existing files.
        require: raises a CheckpointError for a checkpoint that cannot be used.

    Raises:
        CheckpointError: none can be used.
    """
    positions: dict[tuple[int, int], Path] = {}
    problems = ["there is none"]
    for path in paths:
        try:
            progress = load_state(path)
            require(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            positions[progress.epoch, progress.step] = path
    if not positions:
        raise CheckpointError(f"no checkpoint to resume from: {problems[-1]}")
    for problem in problems[1:]:
        _logger.warning("skipped: %s", problem)
    return positions[max(positions)]


def load_state(path: Path) -> TrainingState:
    """The progress in a ``last.pt``.

    Raises:
        CheckpointError: as ``load_checkpoint``, or the progress is missing or malformed.
    """
    try:
        return state_of(load_checkpoint(path))
    except MisfitError as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> CheckpointError:
    """The error of a readable checkpoint from which a run cannot be resumed."""
    return CheckpointError(f"the checkpoint {path} is damaged, or was made by another version: {why}")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: missing, damaged, of another format, or with anything in it but tensors and plain data.
    """
    try:
        _require_whole(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch asks to report unusual pickles to it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything: KeyError, IndexError, TypeError and others
        raise CheckpointError(f"cannot read the checkpoint {path}: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a checkpoint: it holds a {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {content.get('format')}, this version reads {FORMAT}")
    return content


def _require_whole(path: Path) -> None:
    """Raises a BadZipFile if a checksum in the file is wrong: PyTorch does not verify them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if broken := file.testzip():
                raise zipfile.BadZipFile(f"{broken} in it is damaged")


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without PyTorch's advice to trust the file and execute its code."""
    text = str(error).partition("\n")[0]
    if isinstance(error, OSError):
        return error.strerror or text or type(error).__name__
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return f"it holds code or objects other than tensors and plain data ({named[1]}), and was refused"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it is damaged, or holds code or objects other than tensors and plain data; it was refused"
    return f"it is damaged ({text or type(error).__name__})"


GROUP = ("params", "lr", "betas", "eps", "weight_decay")
"""Settings of a parameter group for which Adam has no default when it loads a state."""

LATER = {"validation_seconds", "micro_batch", "own_sum"}
"""Fields of the progress that checkpoints of earlier versions do not have."""

UNTIL_BEST = ("best_psnr", "best_train_loss")
"""Fields of the progress that are NaN until there is a best epoch."""

KINDS: Mapping[str, Any] = {"int": int, "float": int | float}

MOMENTS = ("exp_avg", "exp_avg_sq")

REPORTED = ("train/loss", "val/loss", "val/psnr", "images_per_second")
"""Metrics of the last epoch that callbacks need when it is reported again."""


class MisfitError(Exception):
    """A part of a checkpoint is missing or of the wrong type. The message is a clause for ``damaged``."""


def state_of(content: Mapping[str, Any]) -> TrainingState:
    """The progress in the content of a ``last.pt``.

    Raises:
        MisfitError: it is missing or malformed.
    """
    values = _dict(content, "progress")
    for field in dataclasses.fields(TrainingState):
        if field.name in LATER and field.name not in values:
            continue
        value = values.get(field.name)
        if not isinstance(value, KINDS.get(str(field.type), dict)) or isinstance(value, bool):
            raise MisfitError(f"progress.{field.name} is {_kind(value)}")
        if isinstance(value, int) and value < 0:
            raise MisfitError(f"progress.{field.name} is {value}")
    if unknown := values.keys() - {field.name for field in dataclasses.fields(TrainingState)}:
        raise MisfitError(f"progress has an unknown {min(map(str, unknown))}")
    progress = TrainingState(**values)
    unset = () if progress.best_epoch else UNTIL_BEST
    if broken := next((name for name, value in values.items() if _is_nan(value) and name not in unset), None):
        raise MisfitError(f"progress.{broken} is not a number")
    if progress.images < progress.step:
        raise MisfitError(f"progress.images is {progress.images} after {progress.step} steps")
    for name in REPORTED if progress.epoch else ():
        if not isinstance(progress.last_metrics.get(name), float):
            raise MisfitError(f"progress.last_metrics.{name} is {_kind(progress.last_metrics.get(name))}")
        if _is_nan(progress.last_metrics[name]):
            raise MisfitError(f"progress.last_metrics.{name} is not a number")
    return progress


def require_fit(content: Mapping[str, Any], model: Mapping[str, Tensor], optimizer: Adam,
                schedule: Schedule, steps: int) -> None:
    """Checks that a run can be resumed from the content of a ``last.pt``.

    Args:
        content: the content of the file.
        model: the learned state of the model.
        optimizer: the optimizer.
        schedule: the learning-rate schedule.
        steps: the number of steps of an epoch.

    Raises:
        MisfitError: something is missing or does not fit these.
    """
    progress = state_of(content)
    if progress.step > steps:
        raise MisfitError(f"progress.step is {progress.step}, and an epoch has {steps}")
    _require_tensors(_dict(content, "model"), model, "model")
    best = _dict(content, "best_model")
    if best or progress.epoch:
        _require_tensors(best, model, "best_model")
    _require_optimizer(_dict(content, "optimizer"), optimizer, progress.has_begun)
    _require_schedule(_dict(content, "schedule"), schedule)


def _require_tensors(found: Mapping[str, Any], wanted: Mapping[str, Tensor], where: str) -> None:
    for name in sorted(wanted.keys() | found.keys(), key=str):
        if name not in wanted:
            raise MisfitError(f"{where} has an unknown {name}")
        tensor = _require_like(found.get(name), wanted[name], f"{where}.{name}")
        if not tensor.isfinite().all():  # a run stops at the first step that is not finite, and saves nothing of it
            raise MisfitError(f"{where}.{name} holds values that are not finite")


def _require_like(found: object, wanted: Tensor, where: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise MisfitError(f"{where} is {_kind(found)}")
    if found.shape != wanted.shape or found.dtype != wanted.dtype or found.layout != wanted.layout:
        raise MisfitError(f"{where} is {_described(found)}, where {_described(wanted)} is needed")
    if found.is_meta:
        raise MisfitError(f"{where} has no numbers (it was saved from the meta device)")
    return found


def _require_optimizer(found: Mapping[str, Any], optimizer: Adam, has_begun: bool) -> None:
    groups = found.get("param_groups")
    state: dict[Any, Any] = _dict(found, "state", "optimizer.")
    wanted = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(wanted):
        raise MisfitError("optimizer.param_groups differ in number")
    for group, own in zip(groups, wanted, strict=True):
        for name in GROUP:
            if not isinstance(group, dict) or type(group.get(name)) is not type(own[name]):
                raise MisfitError(f"optimizer.param_groups has no {name} of the right type")
            if _is_nan(group[name]):
                raise MisfitError(f"optimizer.param_groups: {name} is not a number")
        if group["params"] != own["params"]:
            raise MisfitError("optimizer.param_groups have other parameters")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        if index in state or has_begun:
            _require_moments(state.get(index), parameter, f"optimizer.state.{index}")
    if unknown := state.keys() - set(range(len(parameters))):
        raise MisfitError(f"optimizer.state has an unknown {min(map(str, unknown))}")


def _require_moments(found: object, parameter: nn.Parameter, where: str) -> None:
    if not isinstance(found, dict):
        raise MisfitError(f"{where} is {_kind(found)}")
    if not isinstance(found.get("step"), Tensor | float | int):
        raise MisfitError(f"{where}.step is {_kind(found.get('step'))}")
    for name in MOMENTS:
        moment = _require_like(found.get(name), parameter, f"{where}.{name}")
        if moment.isnan().any():  # infinite ones can come from a high learning rate
            raise MisfitError(f"{where}.{name} holds values that are not numbers")


def _require_schedule(found: Mapping[str, Any], schedule: Schedule) -> None:
    for name, own in schedule.state_dict().items():
        if name not in found:
            raise MisfitError(f"schedule has no {name}")
        both_numbers = all(isinstance(value, int | float) for value in (found[name], own))
        if not both_numbers and type(found[name]) is not type(own):
            raise MisfitError(f"schedule.{name} is {_kind(found[name])}")
        if _is_nan(found[name]):
            raise MisfitError(f"schedule.{name} is not a number")
    for name in found:
        if hasattr(type(schedule), str(name)):  # it would shadow a method
            raise MisfitError(f"schedule has an unknown {name}")


def _dict(content: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise MisfitError(f"{where}{name} is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
