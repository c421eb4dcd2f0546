"""Metrics and losses of a user's own: the values of the parameters ``metrics`` and ``loss``.

Each is a function of images and targets, or a class that makes such a function, in a file or in an installed package
(``models.open_registry``). This module does not import PyTorch; ``losses.own`` has what is executed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from inversion.errors import RequestError, UnknownNameError
from inversion.metrics import METRICS, RESERVED
from inversion.models.open_registry import OutsideParts

if TYPE_CHECKING:
    from inversion.losses.own import OwnLoss, OwnMetric

OURS = {"metric": "", "loss": ". The weights of MSE and LPIPS are mse_weight and lpips_weight"}
"""What a message about a name that is none of a user's own adds."""

NONE = "none"
"""The value of ``metrics`` and of ``loss`` that names nothing."""


def _adapt_metric(name: str, made: Any) -> OwnMetric:
    from inversion.losses.own import OwnMetric

    return OwnMetric(name, logged_name(name), made)


def _adapt_loss(name: str, made: Any) -> OwnLoss:
    from inversion.losses.own import OwnLoss

    return OwnLoss(name, logged_name(name), made)


outside_metrics: OutsideParts[OwnMetric] = OutsideParts("metric", _adapt_metric, lambda: RESERVED)
outside_losses: OutsideParts[OwnLoss] = OutsideParts("loss", _adapt_loss, lambda: RESERVED, "inversion.losses")


def metric_names(text: str) -> list[str]:
    """The names in a value of ``metrics``, which are separated by commas; none for ``none``."""
    names = [name.strip() for name in text.split(",")]
    return [] if names == [NONE] else [name for name in names if name]


def logged_name(name: str) -> str:
    """The name under which the values of a part are logged: ``sharpness`` for ``my_metric.py:sharpness@3f2a9c1b4d5e``.

    An entry point has its own name, ``fancy`` for ``fancy@1.2.0``.
    """
    return name.partition("@")[0].rpartition(":")[2]


def pinned_metrics(text: str) -> str:
    """A value of ``metrics`` with the full names, in alphabetical order; nothing is executed.

    Raises:
        UnknownNameError: there is no such metric.
        RequestError: a file cannot be used; or a name is taken, by a score of ours or by another of these.
    """
    names: dict[str, str] = {}
    for full in (_full_name(name, outside_metrics) for name in metric_names(text)):
        if (other := names.setdefault(logged_name(full), full)) != full:
            raise RequestError(f"metrics: {other} and {full} would both be logged as test/{logged_name(full)}: rename "
                               "one of them")
    return ",".join(sorted(names.values())) or NONE


def pinned_loss(text: str) -> str:
    """A value of ``loss`` with the full name; nothing is executed.

    Raises:
        UnknownNameError: there is no such loss.
        RequestError: the file cannot be used, or the name is taken.
    """
    return text if text == NONE else _full_name(text, outside_losses)


def _full_name(name: str, parts: OutsideParts[Any]) -> str:
    if name not in parts:
        raise _unknown(name, parts)
    full = parts.full_name(name)
    _require_free(logged_name(full), full, parts.kind)
    return full


def _require_free(name: str, full: str, kind: str) -> None:
    """Raises a RequestError if the values of a part cannot be logged under its name."""
    if not re.fullmatch(r"[A-Za-z_]\w{0,79}", name, re.ASCII):
        raise RequestError(f"{kind} {full}: its values are logged under its name, which has only the letters A to Z, "
                           "digits and _ (at most 80): rename it")
    if name.lower() in RESERVED or name.endswith("_std"):
        why = "is that of a score of every run" if name.lower() in RESERVED else "ends with _std, as deviations do"
        raise RequestError(f"{kind} {full}: its values are logged under its name, and {name!r} {why}: rename it")


def _unknown(name: str, parts: OutsideParts[Any]) -> RequestError:
    """The error for a name that is no part from outside."""
    if parts is outside_metrics and name in METRICS:
        return RequestError(f"metrics: {name} is computed in any case; metrics are further ones, as FILE.py:NAME")
    if parts is outside_losses and name in ("mse", "lpips"):
        return RequestError(f"loss: the weight of {name} is {name}_weight; loss is a further term, as FILE.py:NAME")
    example = {"metric": "my_metric.py:my_metric", "loss": "my_loss.py:MyLoss"}[parts.kind]
    if installed := parts.names():
        return UnknownNameError(f"unknown {parts.kind}", name, [*installed, f"FILE.py:NAME (as in {example})"])
    return RequestError(f"{parts.kind} {name!r} is not of the form FILE.py:NAME (as in {example}), and no installed "
                        f"package has one{OURS[parts.kind]}")
