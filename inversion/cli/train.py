"""``inversion train``: one combination of encoder, layer and decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import label_options, no_blank, parameter_options, tracking_options
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import parse_config
from inversion.console import make_console, progress_bars
from inversion.errors import RequestError

if TYPE_CHECKING:
    from inversion.runs.prepare import Prepared
    from inversion.tracking.connection import Connection


@click.command("train")
@parameter_options
@label_options
@tracking_options
@click.option("--resume", metavar="RUN", callback=no_blank, help="Resume an interrupted run from its last checkpoint: "
              "its id, the beginning of one, its name, or STUDY/NAME.")
def command(tracking_uri: str | None, experiment: str | None, resume: str | None, tags: dict[str, str],
            comment: dict[str, str], **parameters: Any) -> None:
    """Train a decoder that reconstructs images from the features of one encoder layer, and score it.

    Everything is logged to MLflow: parameters, metrics per epoch, checkpoints, reconstructions, and the model.

    \b
    Examples:
      inversion train --encoder vgg16:block1 --decoder transposed_conv --data ./photos --weights vgg16.pth
      inversion train --encoder ensemble --fusion attention --decoder wavelet
      inversion train --encoder timm/convnext_tiny:stage1 --decoder frequency_aware --image-size 256
      inversion train --resume 4fbe0d1c
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if resume and given:
        raise click.UsageError(f"--resume takes its parameters from the run; leave out --{next(iter(given))}")
    config = check(parse_config(given))
    check_inputs(config)
    with slow_imports():
        from inversion.cli.output import show_locations, show_request, show_scores
        from inversion.config.document import config_of
        from inversion.config.resolve import Fallback
        from inversion.runs.prepare import prepare
        from inversion.runs.train import train_steps
        from inversion.tracking.connection import connect
        from inversion.tracking.mlflow_run import stop_with_mlflow_run
        from inversion.tracking.retry import with_retries
        from inversion.training.cotraining import run_alone
        from inversion.training.progress_bar import ProgressBar
        from inversion.training.stop import interruptible

    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment, create=resume is None)
        inherited: list[Fallback] = []
        if resume:
            resume, document = _resumable(connection, resume)
            config = config_of(document, f"run {resume}")
            inherited = [Fallback(**fallback) for fallback in document["fallbacks"]]
        with progress_bars() as report:
            prepared = prepare(config, interruptible(report, stop), inherited)
        plan = prepared.plan
        show_request(console, plan.name, plan, _rows(prepared))
        with ProgressBar(console, plan.config.epochs) as bar:
            result = run_alone(train_steps(prepared, with_retries(connection, stop), [bar], stop, resume,
                                           labels=tags | comment))
    show_scores(console, plan.name, plan, result, f"best epoch {result.metrics['best_epoch']:.0f}, "
                                                  f"{result.metrics['train_seconds']:.0f} s of training")
    show_locations(console, plan, result, connection)


def _resumable(connection: Connection, text: str) -> tuple[str, dict[str, Any]]:
    """The id and the resolved configuration of the run to resume, by its id or name (``tracking.choose``).

    Raises:
        RequestError: there is no such run or there are several, it is not ours or FINISHED, another process owns it or
            may, or its artifacts are on another machine.
    """
    from inversion.tracking.artifacts import require_artifacts
    from inversion.tracking.choose import choose_resumable
    from inversion.tracking.ownership import require_unowned
    from inversion.tracking.search import document_of

    run = choose_resumable(connection, text)
    run_id = str(run.info.run_id)
    if run.info.status == "FINISHED":
        raise RequestError(f"run {run_id} is FINISHED; there is nothing to resume")
    document = document_of(run)
    require_unowned(connection, run)
    if run.data.metrics:
        require_artifacts(run)
    return run_id, document


def _rows(prepared: Prepared) -> dict[str, str]:
    """What will be run, with every ``auto`` resolved."""
    plan, config = prepared.plan, prepared.plan.config
    counts = ", ".join(f"{len(prepared.photos.names(split))} {split}" for split in ("train", "val", "test"))
    return {
        "decoder": _with_options(config.decoder, config.decoder_options),
        "fusion": _with_options(config.fusion, config.fusion_options),
        "data": f"{plan.photos.name}: {counts} ({plan.photos.root})",
        "loss": f"{config.mse_weight:g}·MSE + {config.lpips_weight:g}·LPIPS (LPIPS: {config.lpips_weights})",
        "protocol": config.protocol,
        "training": f"at most {config.epochs} epochs, batch {config.batch_size}, lr {config.lr:g}, seed {config.seed}"
                    + (f", crops {config.crops}" if config.fixed_crops else ""),
    }


def _with_options(name: str, options: str) -> str:
    return name if options == "auto" else f"{name} {options}"
