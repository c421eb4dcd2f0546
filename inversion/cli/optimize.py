"""``inversion optimize``: each test image inverted by itself, without training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import no_blank, tracking_options
from inversion.config.optimize_config import DEFAULTS, SHARED, OptimizeSettings, parse_optimize_config
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import RunConfig, allowed_in

F = TypeVar("F", bound=Callable[..., Any])

DESCRIPTIONS = {
    "protocol": "image: features and scores of the image in [0, 1]; published: with ImageNet's normalisation, scored "
                "against the normalised, clipped image",
    "batch_size": "images at a time",
    "seed": "seed of the noise that the descent begins with",
    "precision": "bf16: autocast; auto: fp32, also on CUDA",
}
"""Parameters of a run of which the same name says a little less here."""


def _options(command: F) -> F:
    """An option for every parameter; those of decoders too, hidden, so that they are refused in words."""
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
              help="Log it below this study of the experiment, for its report.")
@tracking_options
def command(tracking_uri: str | None, experiment: str | None, study: str | None, **parameters: Any) -> None:
    """Invert each test image by itself: gradient descent on an image until it has the same features.

    The training-free reference beside the learned decoders (Mahendran and Vedaldi, CVPR 2015): ONE LOWER BOUND on what
    the features allow. It shows that so much of an image can be had from them, and never that more cannot. Scores,
    pictures and the curve of the objective are logged to MLflow.

    \b
    Examples:
      inversion optimize --encoder vgg16:block1 --data sample --weights random --image-size 64
      inversion optimize --encoder ensemble --data div2k --test-limit 10 --steps 500
      inversion optimize --encoder vgg16:block3 --data div2k --strict true --study ablation
    """
    config = parse_optimize_config({name: value for name, value in parameters.items() if value is not None})
    check_inputs(check(config.shared))
    with slow_imports():
        from inversion.cli import optimizing

    optimizing.optimize(config, tracking_uri, experiment, study)
