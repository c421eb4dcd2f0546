"""Telling runs of the same name apart by the parameters in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from inversion.config.run_config import RunConfig

_NOT_SHOWN = {"seed", "layer", "encoder", "decoder", "fusion", "data_dir", "device", "threads", "strict", "vgg_weights"}
"""Parameters that are in the name, and those that change no score."""


def with_differences(names: Sequence[str], parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names, each followed by the parameters in which runs of that name differ: ``vgg16:block1+wavelet lr=0.01``.

    ``parameters`` holds those of each run as plain data; empty where they are not known yet.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for name, known in zip(names, parameters, strict=True):
        if known:
            runs.setdefault(name, []).append(known)
    differing = {name: [key for key in shown_parameters() if _differs(of_name, key)] for name, of_name in runs.items()}
    return [" ".join([name, *(f"{key}={parameter_text(known, key)}" for key in differing.get(name, ()) if known)])
            for name, known in zip(names, parameters, strict=True)]


def _differs(runs: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Whether runs have different texts for a parameter; texts are made only where values differ."""
    default = RunConfig.model_fields[key].default
    values = {run.get(key, default) for run in runs}
    return len(values) > 1 and len({parameter_text({key: value}, key) for value in values}) > 1


def shown_parameters() -> list[str]:
    """The names of the parameters that can tell two runs of the same name apart."""
    return [name for name in RunConfig.model_fields if name not in _NOT_SHOWN]


def parameter_text(parameters: Mapping[str, Any], name: str) -> str:
    """A parameter as short text: ``0.01``, ``true``, the last part of a path; its default if it is missing."""
    value = parameters.get(name, RunConfig.model_fields[name].default)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return PurePath(text).name if text.startswith("/") else text
