"""``inversion train``: one combination of encoder, layer and decoder."""

from __future__ import annotations

from typing import Any

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import no_blank, parameter_options, tracking_options
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import parse_config


@click.command("train")
@parameter_options
@tracking_options
@click.option("--resume", metavar="RUN_ID", callback=no_blank,
              help="Go on with an interrupted run, from its last checkpoint.")
def command(tracking_uri: str | None, experiment: str | None, resume: str | None, **parameters: Any) -> None:
    """Train a decoder that rebuilds images from one encoder layer's features, and score it.

    Everything is logged to MLflow: parameters, metrics by epoch, checkpoints, reconstructions, and the model.

    \b
    Examples:
      inversion train --encoder vgg16:block1 --decoder transposed_conv --data ./photos --weights vgg16.pth
      inversion train --encoder ensemble --fusion attention --decoder wavelet
      inversion train --encoder timm/convnext_tiny:stage1 --decoder frequency_aware --image-size 256
      inversion train --resume 4fbe0d1c2b0b4b6d
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if resume and given:
        raise click.UsageError(f"--resume takes its parameters from the run; leave out --{next(iter(given))}")
    config = check(parse_config(given))
    check_inputs(config)
    with slow_imports():
        from inversion.cli import training

    training.train(config, tracking_uri, experiment, resume)
