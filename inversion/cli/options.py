"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from inversion.config import RunConfig, allowed_values
from inversion.decoders import decoders
from inversion.fusion import fusions
from inversion.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {"decoder": decoders, "fusion": fusions}

F = TypeVar("F", bound=Callable[..., Any])


def tracking_options(command: F) -> F:
    """``--tracking-uri`` and ``--experiment``, beside MLflow's own environment variables."""
    command = click.option("--experiment", metavar="NAME", help="MLflow experiment [default: inversion]")(command)
    return click.option("--tracking-uri", metavar="URI",
                        help="MLflow tracking server or database [default: sqlite:///mlflow.db]")(command)


def parameter_options(command: F) -> F:
    """An option for every parameter of a run, ``lr_patience`` as ``--lr-patience``; values are checked later."""
    for name, field in reversed(RunConfig.model_fields.items()):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        allowed = "" if field.annotation is str else f" ({allowed_values(name)})"
        if name in REGISTRIES:
            allowed = f" ({', '.join(REGISTRIES[name].names())})"
        help_text = f"{field.description}{allowed} [default: {default}]"
        command = click.option(f"--{name.replace('_', '-')}", f"{name}", metavar="VALUE", help=help_text)(command)
    return command
