"""What ``inversion train`` does once its options are known to be well formed."""

from __future__ import annotations

from typing import Any

from inversion.cli.progress_bar import ProgressBar
from inversion.cli.showing import encoder_rows, engine_row, say_where, show_rows, show_scores
from inversion.config.document import config_of
from inversion.config.resolve import Fallback, Plan
from inversion.config.run_config import RunConfig
from inversion.console import Console, make_console, progress_bars
from inversion.errors import RequestError
from inversion.runs.prepare import Prepared, prepare
from inversion.runs.train import RunResult
from inversion.runs.train import train as train_prepared
from inversion.tracking.connection import Connection, connect
from inversion.tracking.lookup import document_of, find_run
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.tracking.moved import require_artifacts
from inversion.tracking.retry import patient
from inversion.tracking.stale import require_nobody_at
from inversion.training.stop import interruptible


def train(config: RunConfig, tracking_uri: str | None, experiment: str | None, resume: str | None) -> None:
    """Prepares a checked request, shows what was resolved, trains and shows the scores.

    Raises:
        InversionError: the request was wrong, or the run failed.
    """
    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment, create=resume is None)
        inherited: list[Fallback] = []
        if resume:
            document = resumable(connection, resume)
            config = config_of(document, f"run {resume}")
            inherited = [Fallback(**fallback) for fallback in document["fallbacks"]]
        with progress_bars() as report:
            prepared = prepare(config, interruptible(report, stop), inherited)
        show_plan(console, prepared)
        with ProgressBar(console, prepared.plan.config.epochs) as bar:
            result = train_prepared(prepared, patient(connection, stop), [bar], stop, resume)
    show_result(console, prepared.plan, result, connection)


def resumable(connection: Connection, run_id: str) -> dict[str, Any]:
    """The resolved configuration of a run that can be resumed.

    Raises:
        RequestError: no such run, none of ours, one that is finished, or that somebody works on, or may, or one whose
            artifacts are on another machine.
    """
    run = find_run(connection, run_id)
    if run.info.status == "FINISHED":
        raise RequestError(f"run {run_id} is FINISHED; there is nothing to go on with")
    document = document_of(run)
    require_nobody_at(connection, run)
    if run.data.metrics:
        require_artifacts(run)
    return document


def show_plan(console: Console, prepared: Prepared) -> None:
    """What will be run, after every ``auto`` was resolved."""
    plan, photos = prepared.plan, prepared.photos
    config = plan.config
    counts = ", ".join(f"{len(photos.names(split))} {split}" for split in ("train", "val", "test"))
    show_rows(console, plan.name, {
        **encoder_rows(plan),
        "decoder": config.decoder if config.decoder_options == "auto" else f"{config.decoder} {config.decoder_options}",
        "fusion": config.fusion,
        "data": f"{plan.photos.name}: {counts} ({plan.photos.root})",
        "loss": f"{config.mse_weight:g}·MSE + {config.lpips_weight:g}·LPIPS (LPIPS: {config.lpips_weights})",
        "protocol": config.protocol,
        "training": f"at most {config.epochs} epochs, batch {config.batch_size}, lr {config.lr:g}, seed {config.seed}",
        **engine_row(plan),
    }, plan)


def show_result(console: Console, plan: Plan, result: RunResult, connection: Connection) -> None:
    """Scores, where the pictures are, how to look at them, and once more what was fallen back on."""
    show_scores(console, plan.name, plan, result, f"best epoch {result.metrics['best_epoch']:.0f}, "
                                                  f"{result.metrics['train_seconds']:.0f} s of training")
    say_where(console, plan, result, connection)
