"""``inversion train``: one combination of encoder, layer and decoder."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from inversion.cli.imports import slow_imports
from inversion.cli.options import label_options, no_blank, parameter_options, tracking_options, trust_code_option
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import parse_config
from inversion.console import make_console, progress_bars
from inversion.errors import RequestError

if TYPE_CHECKING:
    from mlflow.entities import Run

    from inversion.runs.prepare import Prepared
    from inversion.tracking.connection import Connection


@click.command("train")
@parameter_options
@label_options
@tracking_options
@click.option("--resume", metavar="RUN", callback=no_blank, help="Resume an interrupted run from its last checkpoint: "
              "its id, the beginning of one, its name, or STUDY/NAME. With --epochs, go on from a finished run of "
              "fewer epochs, in a new run.")
@click.option("--system-metrics", is_flag=True, help="Log MLflow's system metrics: CPU, memory, disk, network, GPU.")
@trust_code_option
def command(tracking_uri: str | None, experiment: str | None, resume: str | None, system_metrics: bool,
            trust_code: bool, tags: dict[str, str], comment: dict[str, str], **parameters: Any) -> None:
    """Train a decoder that reconstructs images from the features of one encoder layer, and score it.

    Everything is logged to MLflow: parameters, metrics per epoch, checkpoints, reconstructions, and the model.

    \b
    Examples:
      inversion train --encoder vgg16:block1 --decoder transposed_conv --data ./photos --weights vgg16.pth
      inversion train --encoder ensemble --fusion attention --decoder wavelet
      inversion train --encoder timm/convnext_tiny:stage1 --decoder frequency_aware --image-size 256
      inversion train --decoder my_decoder.py:MyDecoder --decoder-options width=128
      inversion train --encoder my_encoder.py:MyEncoder:layer2 --decoder wavelet
      inversion train --loss my_loss.py:MyLoss --loss-weight 0.1 --metric my_metric.py:sharpness
      inversion train --resume 4fbe0d1c
      inversion train --resume 4fbe0d1c --epochs 60
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    if trust_code and not resume:
        raise click.UsageError("--trust-code is for the code of a run, with --resume: a file that is named needs none")
    if resume and (others := given.keys() - {"epochs"}):
        raise click.UsageError("--resume takes its parameters from the run, and only --epochs extends it; leave out "
                               f"--{min(others).replace('_', '-')}")
    config = check(parse_config(given))
    check_inputs(config)
    with slow_imports():
        from inversion.cli.output import show_locations, show_request, show_scores
        from inversion.config.document import config_of
        from inversion.config.resolve import Fallback
        from inversion.models.part_files import accept
        from inversion.runs.extend import begin_extension
        from inversion.runs.prepare import prepare
        from inversion.runs.train import train_steps
        from inversion.tracking.connection import connect
        from inversion.tracking.mlflow_run import stop_with_mlflow_run
        from inversion.tracking.results import fetch_code
        from inversion.tracking.retry import with_retries
        from inversion.tracking.system_metrics import NO_GPU, knows_gpus
        from inversion.training.cotraining import run_alone
        from inversion.training.progress_bar import ProgressBar
        from inversion.training.stop import interruptible

    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment, create=resume is None)
        inherited: list[Fallback] = []
        if resume:
            former, document = (_extendable(connection, resume, config.epochs) if given
                                else _resumable(connection, resume))
            before = config_of(document, f"run {former.info.run_id}")
            config = before.model_copy(update={"epochs": config.epochs} if given else {})
            run_id = str(former.info.run_id)
            accept(config.parts, partial(fetch_code, run_id), trust_code, f"run {run_id}")
            inherited = [Fallback(**fallback) for fallback in document["fallbacks"]]
        with progress_bars() as report:
            prepared = prepare(config, interruptible(report, stop), inherited)
        plan = prepared.plan
        if resume:
            resume = begin_extension(connection, prepared, former, before.epochs) if given else former.info.run_id
        if system_metrics and plan.config.device.startswith("cuda") and not knows_gpus():
            console.note(NO_GPU)
        show_request(console, plan.name, plan, _rows(prepared))
        with ProgressBar(console, plan.config.epochs) as bar:
            result = run_alone(train_steps(prepared, with_retries(connection, stop), [bar], stop, resume,
                                           monitored=system_metrics, labels=tags | comment))
    show_scores(console, plan.name, plan, result, f"best epoch {result.metrics['best_epoch']:.0f}, "
                                                  f"{result.metrics['train_seconds']:.0f} s of training")
    show_locations(console, plan, result, connection)


def _resumable(connection: Connection, text: str) -> tuple[Run, dict[str, Any]]:
    """The run to resume, by its id or name (``tracking.choose``), and its resolved configuration.

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
        raise RequestError(f"run {run_id} is FINISHED; there is nothing to resume (--epochs extends it)")
    document = document_of(run)
    require_unowned(connection, run)
    if run.data.metrics:
        require_artifacts(run)
    return run, document


def _extendable(connection: Connection, text: str, epochs: int) -> tuple[Run, dict[str, Any]]:
    """The finished run to extend to so many epochs, and its resolved configuration.

    Raises:
        RequestError: there is no such run or there are several, it cannot be extended, or its artifacts are on another
            machine.
    """
    from inversion.config.document import config_of
    from inversion.runs.extend import require_extendable
    from inversion.tracking.artifacts import require_artifacts
    from inversion.tracking.choose import choose_extendable
    from inversion.tracking.search import document_of

    run = choose_extendable(connection, text)
    document = document_of(run)
    require_extendable(run, config_of(document, f"run {run.info.run_id}"), epochs)
    require_artifacts(run)
    return run, document


def _rows(prepared: Prepared) -> dict[str, str]:
    """What will be run, with every ``auto`` resolved."""
    plan, config = prepared.plan, prepared.plan.config
    counts = ", ".join(f"{len(prepared.photos.names(split))} {split}" for split in ("train", "val", "test"))
    return {
        "decoder": _with_options(config.decoder, config.decoder_options),
        "fusion": _with_options(config.fusion, config.fusion_options),
        "data": f"{plan.photos.name}: {counts} ({plan.photos.root})",
        "loss": f"{config.mse_weight:g}·MSE + {config.lpips_weight:g}·LPIPS"
                + (f" + {config.loss_weight:g}·{config.loss}" if config.loss != "none" else "")
                + f" (LPIPS: {config.lpips_weights})",
        **({"metrics": config.metrics} if config.metrics != "none" else {}),
        "protocol": config.protocol,
        "training": f"at most {config.epochs} epoch{'s' * (config.epochs > 1)}, batch {config.batch_size}, "
                    f"lr {config.lr:g}, seed {config.seed}"
                    + (f", crops {config.crops}" if config.fixed_crops else ""),
    }


def _with_options(name: str, options: str) -> str:
    return name if options == "auto" else f"{name} {options}"
