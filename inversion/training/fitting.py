"""Whether a checkpoint has all that training goes on from, in the shapes of the model that it is for.

Looked at before anything is loaded: a state that is loaded in part would train on, with other numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from inversion.training.state import TrainingState

GROUP = ("params", "lr", "betas", "eps", "weight_decay")
"""What Adam cannot make up for in its groups."""

LATER = {"validation_seconds", "micro_batch"}
"""What checkpoints of the first version do not have."""

KINDS: Mapping[str, Any] = {"int": int, "float": int | float}

MOMENTS = ("exp_avg", "exp_avg_sq")

TOLD = ("train/loss", "val/loss", "val/psnr", "images_per_second")
"""Metrics of the last epoch that are told again."""


class MisfitError(Exception):
    """Something in a checkpoint is missing or of the wrong kind; the message is a part of a sentence."""


def state_of(content: Mapping[str, Any]) -> TrainingState:
    """Where the run of a ``last.pt`` stands.

    Raises:
        MisfitError: it does not say.
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
    if progress.images < progress.step:
        raise MisfitError(f"progress.images is {progress.images} after {progress.step} steps")
    for name in TOLD if progress.epoch else ():
        if not isinstance(progress.last_metrics.get(name), float):
            raise MisfitError(f"progress.last_metrics.{name} is {_kind(progress.last_metrics.get(name))}")
    return progress


def require_fit(content: Mapping[str, Any], model: Mapping[str, Tensor], optimizer: Adam,
                schedule: ReduceLROnPlateau, steps: int) -> None:
    """Raises a MisfitError if the content of a ``last.pt`` is not all that these need to go on.

    ``model`` is its learned state, ``steps`` how many an epoch has.
    """
    progress = state_of(content)
    if progress.step > steps:
        raise MisfitError(f"progress.step is {progress.step}, and an epoch has {steps}")
    begun = progress.epoch > 0 or progress.step > 0
    _require_tensors(_dict(content, "model"), model, "model")
    best = _dict(content, "best_model")
    if best or progress.epoch:
        _require_tensors(best, model, "best_model")
    _require_optimizer(_dict(content, "optimizer"), optimizer, begun)
    _require_schedule(_dict(content, "schedule"), schedule)


def _require_tensors(found: Mapping[str, Any], wanted: Mapping[str, Tensor], where: str) -> None:
    for name in sorted(wanted.keys() | found.keys(), key=str):
        if name not in wanted:
            raise MisfitError(f"{where} has an unknown {name}")
        _require_like(found.get(name), wanted[name], f"{where}.{name}")


def _require_like(found: object, wanted: Tensor, where: str) -> None:
    if not isinstance(found, Tensor):
        raise MisfitError(f"{where} is {_kind(found)}")
    if found.shape != wanted.shape or found.dtype != wanted.dtype or found.layout != wanted.layout:
        raise MisfitError(f"{where} is {_described(found)}, where {_described(wanted)} is needed")


def _require_optimizer(found: Mapping[str, Any], optimizer: Adam, begun: bool) -> None:
    groups = found.get("param_groups")
    state: dict[Any, Any] = _dict(found, "state", "optimizer.")
    wanted = optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(wanted):
        raise MisfitError("optimizer.param_groups are others")
    for group, own in zip(groups, wanted, strict=True):
        for name in GROUP:
            if not isinstance(group, dict) or type(group.get(name)) is not type(own[name]):
                raise MisfitError(f"optimizer.param_groups has no {name} of the right kind")
        if group["params"] != own["params"]:
            raise MisfitError("optimizer.param_groups are of other parameters")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, parameter in enumerate(parameters):
        if index in state or begun:
            _require_moments(state.get(index), parameter, f"optimizer.state.{index}")
    if unknown := state.keys() - set(range(len(parameters))):
        raise MisfitError(f"optimizer.state has an unknown {min(map(str, unknown))}")


def _require_moments(found: object, parameter: nn.Parameter, where: str) -> None:
    if not isinstance(found, dict):
        raise MisfitError(f"{where} is {_kind(found)}")
    if not isinstance(found.get("step"), Tensor | float | int):
        raise MisfitError(f"{where}.step is {_kind(found.get('step'))}")
    for name in MOMENTS:
        _require_like(found.get(name), parameter, f"{where}.{name}")


def _require_schedule(found: Mapping[str, Any], schedule: ReduceLROnPlateau) -> None:
    for name, own in schedule.state_dict().items():
        if name not in found:
            raise MisfitError(f"schedule has no {name}")
        both_numbers = all(isinstance(value, int | float) for value in (found[name], own))
        if not both_numbers and type(found[name]) is not type(own):
            raise MisfitError(f"schedule.{name} is {_kind(found[name])}")
    for name in found:
        if hasattr(type(schedule), str(name)):  # it would stand in for a method
            raise MisfitError(f"schedule has an unknown {name}")


def _dict(content: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise MisfitError(f"{where}{name} is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
