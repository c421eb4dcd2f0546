"""Options that several commands take."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from inversion.config import RunConfig, allowed_values, parse_value
from inversion.decoders import decoders
from inversion.errors import RequestError
from inversion.fusion import fusions
from inversion.registry import Registry

REGISTRIES: dict[str, Registry[Any]] = {"decoder": decoders, "fusion": fusions}

F = TypeVar("F", bound=Callable[..., Any])


class ParameterType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click alone
    """A value that one of a run's parameters may have, for commands that take it without being a run."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_value(self.name, value)
        except RequestError as error:
            self.fail(str(error).removeprefix(f"{self.name}: "), param, ctx)


class FiniteRange(click.FloatRange):
    """A number in a range; NaN is in none, and compares as if it were in all."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


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
