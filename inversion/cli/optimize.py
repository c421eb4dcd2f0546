"""``inversion optimize``: inverts each test image by gradient descent, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import no_blank, tracking_options
from inversion.config.optimize_config import DEFAULTS, SHARED, OptimizeSettings, parse_optimize_config
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import RunConfig, allowed_in
from inversion.console import make_console, progress_bars

if TYPE_CHECKING:
    from inversion.runs.optimize import PreparedOptimization

F = TypeVar("F", bound=Callable[..., Any])

DESCRIPTIONS = {
    "protocol": "image: features and scores of the image in [0, 1]; published: with ImageNet's normalisation, scored "
                "against the normalised, clipped image",
    "batch_size": "images optimised together",
    "seed": "seed of the initial noise",
    "precision": "bf16: autocast; auto: fp32, also on CUDA",
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
@tracking_options
def command(tracking_uri: str | None, experiment: str | None, study: str | None, **parameters: Any) -> None:
    """Invert each test image by gradient descent on its pixels until it has the same features.

    A training-free baseline for the learned decoders (Mahendran and Vedaldi, CVPR 2015): ONE LOWER BOUND on what the
    features allow. It shows that this much of an image can be recovered, never that more cannot. Scores, pictures and
    the curve of the objective are logged to MLflow.

    \b
    Examples:
      inversion optimize --encoder vgg16:block1 --data sample --weights random --image-size 64
      inversion optimize --encoder ensemble --data div2k --test-limit 10 --steps 500
      inversion optimize --encoder vgg16:block3 --data div2k --strict true --study ablation
    """
    config = parse_optimize_config({name: value for name, value in parameters.items() if value is not None})
    check_inputs(check(config.shared))
    with slow_imports():
        from inversion.cli.output import show_locations, show_request, show_scores
        from inversion.runs.optimize import optimize, prepare_optimization
        from inversion.tracking.connection import connect
        from inversion.tracking.mlflow_run import stop_with_mlflow_run
        from inversion.tracking.retry import with_retries
        from inversion.tracking.study import StudyRun, require_study
        from inversion.training.stop import interruptible

    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment)
        parent = StudyRun(require_study(connection, study).info.run_id, study) if study else None
        with progress_bars() as report:
            request = prepare_optimization(config, interruptible(report, stop))
        plan = request.prepared.plan
        show_request(console, request.name, plan, _rows(request))
        with progress_bars() as report:
            result = optimize(request, with_retries(connection, stop), stop, report, parent)
    show_scores(console, request.name, plan, result,
                f"{result.metrics['inference_ms_per_image'] / 1000:.1f} s per image")
    console.print("one lower bound on what the features allow: another search may find an image that is nearer",
                  soft_wrap=True)
    show_locations(console, plan, result, connection)


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
