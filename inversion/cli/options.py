"""Options and option types shared by several commands."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from inversion.config.labels import check_comment, parse_tag
from inversion.config.run_config import RunConfig, allowed_values, parse_value
from inversion.durations import parse_duration
from inversion.errors import RequestError
from inversion.models.decoders import decoders
from inversion.models.fusion import fusions
from inversion.registry import Registry
from inversion.tracking.address import read_store

STORE_VARIABLE = "MLFLOW_TRACKING_URI"
REGISTRIES: dict[str, Registry[Any]] = {"decoder": decoders, "fusion": fusions}


F = TypeVar("F", bound=Callable[..., Any])


class ParameterType(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click alone
    """A value of one of a run's parameters, for commands that take that parameter alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_value(self.name, value)
        except RequestError as error:
            self.fail(str(error).removeprefix(f"{self.name}: "), param, ctx)


class FiniteRange(click.FloatRange):
    """A finite number in a range; click's own check lets NaN pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click alone
    """A duration in seconds: ``90s``, ``30m``, ``8h``, ``1d`` or, as in Slurm, ``8:00:00``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except RequestError as error:
            self.fail(str(error), param, ctx)


def blank_is_default(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Callback of options with a default: an empty or blank value means the default, as for parameters of a run."""
    return value if value and value.strip() else None


Words = TypeVar("Words", str | None, str | tuple[str, ...])


def no_blank(ctx: click.Context, param: click.Parameter, value: Words) -> Words:
    """Callback of options without a default: rejects empty values, which usually come from an unset shell variable.

    Raises:
        click.UsageError: the value, or one of several, is empty or blank.
    """
    for word in (value,) if isinstance(value, str) else value or ():
        if not word.strip():
            name = param.get_error_hint(ctx).strip("'[].")
            raise click.UsageError(f"{name}: an empty text ({word!r}) is not a value: is a variable not set?")
    return value


def tracking_options(command: F) -> F:
    """Adds ``--tracking-uri`` and ``--experiment``; MLflow's environment variables work as well."""
    command = click.option("--experiment", metavar="NAME", callback=blank_is_default,
                           help="MLflow experiment [default: inversion]")(command)
    return click.option("--tracking-uri", metavar="URI", callback=_read_store,
                        help="MLflow tracking server or database [default: sqlite:///mlflow.db]")(command)


def label_options(command: F) -> F:
    """Adds ``--tag`` and ``--comment``, whose values are mappings of MLflow's tags (``config.labels``)."""
    command = click.option("--comment", "comment", metavar="TEXT", callback=_read_comment,
                           help="What this is about, for the description in MLflow and for reports.")(command)
    return click.option("--tag", "tags", metavar="KEY=VALUE", multiple=True, callback=_read_tags,
                        help="A tag in MLflow, to search for; may be repeated.")(command)


def _read_tags(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for text in value:
        with _named("--tag"):
            key, content = parse_tag(text)
        if tags.setdefault(key, content) != content:
            raise click.UsageError(f"--tag {key} is given twice, as {tags[key]!r} and as {content!r}")
    return tags


def _read_comment(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, str]:
    with _named("--comment"):
        return {} if value is None else check_comment(value)


@contextmanager
def _named(option: str) -> Iterator[None]:
    """Begins the message of a RequestError with the option."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{option}: {error}") from None


def best_of_option(command: F) -> F:
    """Adds ``--best-of``, which takes the place of RUN (``report.best_run.find_best``)."""
    return click.option("--best-of", metavar="STUDY", callback=no_blank,
                        help="Instead of RUN: the run of this study with the highest test PSNR; of a search, the one "
                             "with the best objective.")(command)


def trust_code_option(command: F) -> F:
    """Adds ``--trust-code`` (``models.part_files``)."""
    return click.option("--trust-code", is_flag=True, help="Allow code that comes with the run or study to be "
                        "executed: that of parts in files which are not on this machine.")(command)


def _read_store(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The normalized address; MLflow's variable is only validated, because MLflow reads it itself."""
    if value:
        return read_store(value, "--tracking-uri")
    if from_environment := os.environ.get(STORE_VARIABLE):
        read_store(from_environment, STORE_VARIABLE)
    return None


def metric_option(help_text: str) -> Callable[[F], F]:
    """Adds ``--metric``, which may be repeated, also as ``--metrics`` like the parameter."""
    return click.option("--metric", "--metrics", "metrics", metavar="VALUE", multiple=True, callback=_join_metrics,
                        help=help_text)


def _join_metrics(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> str | None:
    return ",".join(text for text in value if text.strip()) or None


def parameter_options(command: F) -> F:
    """Adds an option for every parameter of a run, ``lr_patience`` as ``--lr-patience``; values are checked later."""
    for name, field in reversed(RunConfig.model_fields.items()):
        default = str(field.default).lower() if isinstance(field.default, bool) else field.default
        allowed = "" if field.annotation is str else f" ({allowed_values(name)})"
        if name in REGISTRIES:
            allowed = f" ({', '.join(REGISTRIES[name].names())})"
        help_text = f"{field.description}{allowed} [default: {default}]"
        if name == "metrics":
            command = metric_option(help_text)(command)
            continue
        command = click.option(f"--{name.replace('_', '-')}", f"{name}", metavar="VALUE", help=help_text)(command)
    return command
