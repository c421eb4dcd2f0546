"""``inversion optimize``: inverts each test image by gradient descent, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import no_blank, tracking_options
from inversion.config.optimize_config import (
    DEFAULTS,
    SHARED,
    OptimizeConfig,
    OptimizeSettings,
    parse_optimize_config,
)
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import RunConfig, allowed_in
from inversion.console import Console, make_console, progress_bars

if TYPE_CHECKING:
    from inversion.runs.optimize import PreparedOptimization
    from inversion.runs.train import RunResult
    from inversion.tracking.connection import Connection
    from inversion.tracking.study import StudyRun
    from inversion.training.stop import StopRequest

F = TypeVar("F", bound=Callable[..., Any])

DESCRIPTIONS = {
    "protocol": "image: features and scores of the image in [0, 1]; published: with ImageNet's normalisation, scored "
                "against the normalised, clipped image",
    "batch_size": "images optimised together",
    "seed": "seed of the initial noise",
    "precision": "bf16: autocast; auto: fp32, also on CUDA",
    "steps": "steps of the descent on each image; several as 200,1000",
}
"""Descriptions of parameters that differ from those of a training run."""


def _options(command: F) -> F:
    """An option for every parameter; those of decoders are hidden, and rejected with an explanation."""
    for name in (name for name in RunConfig.model_fields if name not in (*SHARED, *OptimizeSettings.model_fields)):
        command = click.option(f"--{name.replace('_', '-')}", name, hidden=True)(command)
    fields = {name: RunConfig.model_fields[name] for name in SHARED} | OptimizeSettings.model_fields
    for name, field in reversed(fields.items()):
        default = DEFAULTS.get(name, field.default)
        shown = str(default).lower() if isinstance(default, bool) else default
        allowed = "" if field.annotation is str else f" ({allowed_in(field)})"
        description = DESCRIPTIONS.get(name, field.description)
        command = click.option(f"--{name.replace('_', '-')}", name, metavar="VALUE",
                               help=f"{description}{allowed} [default: {shown}]")(command)
    return command


@click.command("optimize")
@_options
@click.option("--study", metavar="NAME", callback=no_blank,
              help="Log the run as a child of this study, for its report.")
@click.option("--every-layer", is_flag=True,
              help="Invert through every encoder layer of the --study, with its images, weights and image size; what "
                   "is finished is left out.")
@tracking_options
def command(tracking_uri: str | None, experiment: str | None, study: str | None, every_layer: bool, **parameters: Any
            ) -> None:
    """Invert each test image by gradient descent on its pixels until it has the same features.

    A training-free baseline for the learned decoders (Mahendran and Vedaldi, CVPR 2015): ONE LOWER BOUND on what the
    features allow. It shows that this much of an image can be recovered, never that more cannot. Scores, pictures and
    the curve of the objective are logged to MLflow. Several numbers of steps make a run each.

    \b
    Examples:
      inversion optimize --encoder vgg16:block1 --data sample --weights random --image-size 64
      inversion optimize --encoder ensemble --data div2k --test-limit 10 --steps 500
      inversion optimize --encoder vgg16:block3 --data div2k --strict true --study ablation
      inversion optimize --study ablation --every-layer --steps 200,1000
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    steps = _numbers(str(given.pop("steps", "")))
    _require_study(study, every_layer, given)
    configs = [parse_optimize_config({**given, "steps": count}) for count in steps]
    if not every_layer:
        check_inputs(check(configs[0].shared))
    with slow_imports():
        from inversion.cli.output import show_locations
        from inversion.runs.optimize_study import requests_of_study
        from inversion.tracking.connection import connect
        from inversion.tracking.mlflow_run import stop_with_mlflow_run
        from inversion.tracking.study import StudyRun, in_experiment_of, require_study

    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment, create=study is None)
        connection = in_experiment_of(connection, study) if study else connection
        parent = StudyRun(require_study(connection, study).info.run_id, study) if study else None
        if parent and every_layer:
            configs = requests_of_study(connection, parent.name, given, steps)
        done = [made for config in configs if (made := _invert(console, config, connection, stop, parent, every_layer))]
    if not done:
        counts = " and ".join(str(count) for count in sorted({config.settings.steps for config in configs}))
        console.print(f"study {study}: every layer has been inverted with {counts} steps")
        return
    console.print("one lower bound on what the features allow: another search may find an image that is nearer",
                  soft_wrap=True)
    for request, result in done:
        show_locations(console, request.prepared.plan, result, connection)


def _invert(console: Console, config: OptimizeConfig, connection: Connection, stop: StopRequest,
            parent: StudyRun | None, once: bool) -> tuple[PreparedOptimization, RunResult] | None:
    """Does one request and prints its scores; None if it has to be done ``once`` and the study has it."""
    from inversion.cli.output import show_request, show_scores
    from inversion.runs.optimize import optimize, prepare_optimization
    from inversion.runs.optimize_study import is_done
    from inversion.tracking.retry import with_retries
    from inversion.training.stop import interruptible

    with progress_bars() as report:
        request = prepare_optimization(config, interruptible(report, stop))
    plan = request.prepared.plan
    if once and parent and is_done(connection, parent.name, request.prepared.digest):
        console.note(f"{request.name} with {config.settings.steps} steps is finished")
        return None
    show_request(console, request.name, plan, _rows(request))
    with progress_bars() as report:
        result = optimize(request, with_retries(connection, stop), stop, report, parent)
    show_scores(console, request.name, plan, result,
                f"{result.metrics['inference_ms_per_image'] / 1000:.1f} s per image")
    return request, result


def _numbers(text: str) -> list[str]:
    """``200,1000`` as two texts; an empty one stands for the default."""
    return list(dict.fromkeys(part.strip() for part in text.split(","))) if text.strip(" ,") else [""]


def _require_study(study: str | None, every_layer: bool, given: Mapping[str, Any]) -> None:
    if every_layer and not study:
        raise click.UsageError("--every-layer takes its layers from a study: give --study NAME")
    if every_layer and (own := [name for name in ("encoder", "layer") if name in given]):
        raise click.UsageError(f"--every-layer takes its layers from the study; leave out --{own[0]}")


def _rows(request: PreparedOptimization) -> dict[str, str]:
    """What will be done, with every ``auto`` resolved."""
    plan, settings = request.prepared.plan, request.settings
    config, count = plan.config, len(request.prepared.photos.names("test"))
    return {
        "method": "each image by itself, without training: one lower bound on what the features allow",
        "data": f"{plan.photos.name}: {count} test ({plan.photos.root})",
        "objective": f"relative feature error + {settings.tv_weight:g}·total variation, decaying to 0",
        "protocol": config.protocol,
        "descent": f"{settings.steps} steps of Adam, lr {settings.lr:g} decaying to 0, seed {config.seed}, "
                   f"{config.batch_size} images at a time",
    }
