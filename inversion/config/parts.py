"""The parameters that name parts which can be from outside this package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from inversion.losses.outside import metric_names, outside_losses, outside_metrics, pinned_loss, pinned_metrics
from inversion.models.decoders import decoders
from inversion.models.encoders._notation import encoders_in, split_request
from inversion.models.encoders._timm_hub import short_commits
from inversion.models.encoders.catalog import outside_encoders
from inversion.models.fusion import fusions
from inversion.models.open_registry import OutsideParts
from inversion.models.part_files import short_name

OUTSIDE: Mapping[str, OutsideParts[Any]] = {
    "encoder": outside_encoders, "fusion": fusions.outside, "decoder": decoders.outside, "metrics": outside_metrics,
    "loss": outside_losses}
"""The parts from outside that each of the parameters can name."""

MODEL = ("encoder", "fusion", "decoder")
"""The parameters that name the parts of a model; the others are needed for training and scores only."""


def parts_in(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of all parts in the parameters of a run, each once; parameters that are missing are left out."""
    names = [name for parameter in OUTSIDE if parameter in values
             for name in _names(parameter, str(values[parameter]))]
    return tuple(dict.fromkeys(names))


def pinned(parameter: str, text: str) -> str:
    """The value of a parameter with the full names of parts from outside, which other machines understand.

    Raises:
        RequestError: a file cannot be used, or a package is installed in another version.
    """
    if parameter == "metrics":
        return pinned_metrics(text)
    if parameter == "loss":
        return pinned_loss(text)
    known = OUTSIDE[parameter]
    if parameter != "encoder":
        return known.full_name(text) if text in known else text
    pieces = text.split("+")
    for index, piece in enumerate(pieces):
        if (name := split_request(piece.strip()).encoder) in known:
            pieces[index] = piece.replace(name, known.full_name(name), 1)
    return "+".join(pieces)


def packages_of(names: Iterable[str]) -> set[str]:
    """The packages, by their names on PyPI, that parts from outside need."""
    return {package for name in names for known in OUTSIDE.values() for package in known.packages_of(name)}


def short_names(text: str) -> str:
    """A value of one of the parameters with short names of files and commits, as in the names of runs:
    ``Mine@3f2a9c1b:layer1``.
    """
    for name in encoders_in(text):
        text = text.replace(name, short_name(name))
    return short_commits(text)


def _names(parameter: str, text: str) -> list[str]:
    if parameter == "metrics":
        return metric_names(text)
    return encoders_in(text) if parameter == "encoder" else [text]
