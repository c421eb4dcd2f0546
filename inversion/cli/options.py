"""Options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from inversion.config import RunConfig, allowed_values
from inversion.decoders import decoders
from inversion.fusion import fusions
from inversion.registry import Registry
from inversion.tracking.address import read_store

STORE_VARIABLE = "MLFLOW_TRACKING_URI"
REGISTRIES: dict[str, Registry[Any]] = {"decoder": decoders, "fusion": fusions}

F = TypeVar("F", bound=Callable[..., Any])


def tracking_options(command: F) -> F:
    """``--tracking-uri`` and ``--experiment``, beside MLflow's own environment variables."""
    command = click.option("--experiment", metavar="NAME", help="MLflow experiment [default: inversion]")(command)
    return click.option("--tracking-uri", metavar="URI", callback=_read_store,
                        help="MLflow tracking server or database [default: sqlite:///mlflow.db]")(command)


def _read_store(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The address in its one form; MLflow's variable is only checked, MLflow reads it itself."""
    if value:
        return read_store(value, "--tracking-uri")
    if from_environment := os.environ.get(STORE_VARIABLE):
        read_store(from_environment, STORE_VARIABLE)
    return None


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
