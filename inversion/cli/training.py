"""What ``inversion train`` does once its options are known to be well formed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from inversion.cli.progress_bar import ProgressBar
from inversion.config import RunConfig, parse_config
from inversion.data.progress import Progress, progress_bars
from inversion.errors import InterruptedRunError, RequestError
from inversion.experiment import Prepared, prepare
from inversion.resolve import Fallback, Plan, check
from inversion.run import RunResult
from inversion.run import train as train_prepared
from inversion.tracking.connection import Connection, connect, without_password
from inversion.tracking.lookup import document_of, find_run
from inversion.tracking.owner import PID, owner_is_alive
from inversion.training.interrupt import StopRequest, stop_on_signals

SHOWN_SCORES = {"test/psnr": "PSNR", "test/ssim": "SSIM", "test/lpips": "LPIPS"}


def train(config: RunConfig, tracking_uri: str | None, experiment: str | None, resume: str | None) -> None:
    """Prepares, shows what was resolved, trains and shows the scores.

    Raises:
        InversionError: the request was wrong, or the run failed.
    """
    console = Console()
    check(config)
    with stop_on_signals() as stop:
        connection = connect(tracking_uri, experiment)
        inherited: list[Fallback] = []
        if resume:
            document = resumable(connection, resume)
            config = parse_config(document["parameters"])
            inherited = [Fallback(**fallback) for fallback in document["fallbacks"]]
        with progress_bars() as report:
            prepared = prepare(config, interruptible(report, stop), inherited)
        show_plan(console, prepared)
        with ProgressBar(console, prepared.plan.config.epochs) as bar:
            result = train_prepared(prepared, connection, [bar], stop, resume)
    show_result(console, prepared.plan, result, connection)


def interruptible(report: Progress, stop: StopRequest) -> Progress:
    """The same report, which ends the work when somebody asked to stop."""

    def report_or_stop(what: str, done: int, total: int) -> None:
        if stop.reason is not None:
            raise InterruptedRunError(f"stopped before training: {stop.reason}")
        report(what, done, total)

    return report_or_stop


def resumable(connection: Connection, run_id: str) -> dict[str, Any]:
    """The resolved configuration of a run that can be resumed.

    Raises:
        RequestError: no such run, none of ours, or one that is finished or being worked on.
    """
    run = find_run(connection, run_id)
    if run.info.status == "FINISHED":
        raise RequestError(f"run {run_id} is FINISHED; there is nothing to go on with")
    if run.info.status == "RUNNING" and owner_is_alive(run.data.tags):
        raise RequestError(f"run {run_id} is being worked on by process {run.data.tags[PID]}. Stop that first.")
    return document_of(run)


def show_plan(console: Console, prepared: Prepared) -> None:
    """What will be run, after every ``auto`` was resolved."""
    plan, photos = prepared.plan, prepared.photos
    config = plan.config
    counts = ", ".join(f"{len(photos.names(split))} {split}" for split in ("train", "val", "test"))
    table = Table(title=plan.name, show_header=False, title_justify="left")
    rows = {
        "encoder": ", ".join(f"{cut} ({cut.shape(config.image_size)})" for cut in plan.cuts),
        "weights": ", ".join(f"{name}: {source}" for name, source in plan.weights.items()),
        "decoder": config.decoder if config.decoder_options == "auto" else f"{config.decoder} {config.decoder_options}",
        "fusion": config.fusion,
        "data": f"{plan.photos.name}: {counts} ({plan.photos.root})",
        "loss": f"{config.mse_weight:g}·MSE + {config.lpips_weight:g}·LPIPS (LPIPS: {config.lpips_weights})",
        "protocol": config.protocol,
        "training": f"at most {config.epochs} epochs, batch {config.batch_size}, lr {config.lr:g}, seed {config.seed}",
        "device": f"{config.device}, {config.precision}, {config.threads} threads",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for line in (*plan.photos.warnings, *filter(None, [plan.photos.note])):
        console.print(f"[yellow]note:[/] {line}")
    for fallback in plan.fallbacks:
        console.print(f"[yellow]note:[/] {fallback.short} ({fallback.remedy})")


def show_result(console: Console, plan: Plan, result: RunResult, connection: Connection) -> None:
    """Scores, where the pictures are, how to look at them, and once more what was fallen back on."""
    scores = [f"{label} {result.metrics[name]:.3f} ± {result.metrics[f'{name}_std']:.3f}"
              for name, label in SHOWN_SCORES.items() if name in result.metrics]
    console.print(f"[bold]{plan.name}[/]: {', '.join(scores)} on {plan.photos.name}'s test images "
                  f"(best epoch {result.metrics['best_epoch']:.0f}, "
                  f"{result.metrics['train_seconds']:.0f} s of training)", soft_wrap=True)
    console.print(f"reconstructions: {_place(result)}", soft_wrap=True)
    console.print(f"look at the run: {_address(connection, result.run_id)}", soft_wrap=True)
    if plan.fallbacks:
        remedies = "; ".join(fallback.remedy for fallback in plan.fallbacks)
        console.print(f"{', '.join(fallback.short for fallback in plan.fallbacks)}: not comparable with DIV2K and "
                      f"ImageNet; {remedies}", soft_wrap=True)


def _place(result: RunResult) -> str:
    folder = result.artifact_uri.removeprefix("file://")
    if folder.startswith("/"):
        return f"{folder}/reconstructions"
    return f"mlflow artifacts download --run-id {result.run_id} --artifact-path reconstructions"


def _address(connection: Connection, run_id: str) -> str:
    uri = without_password(connection.uri)
    if uri.startswith("http"):
        experiment_id = connection.client.get_run(run_id).info.experiment_id
        return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"
    # with its folder: after `make quickstart` the environment is not activated, and the command is to be pasted
    beside_python = Path(sys.executable).with_name("mlflow")
    mlflow = str(beside_python) if beside_python.exists() else "mlflow"
    return f"{shlex.join([mlflow, 'ui', '--backend-store-uri', uri])}  (run {run_id})"
