"""The output of ``train`` and ``optimize``: the resolved request, a progress bar, the scores, where results are."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from mlflow.utils.mlflow_tags import MLFLOW_PROJECT_ENTRY_POINT
from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from inversion.config.resolve import Plan
from inversion.console import Console, make_table, styled, text_column
from inversion.metrics import METRICS, exact_note
from inversion.runs.train import RunResult
from inversion.tracking.connection import Connection
from inversion.tracking.pages import page_lines
from inversion.training.callbacks import Callback

DEFAULT_ID = "0"
"""The id of the experiment Default, in which ``mlflow run`` creates its runs unless it is given another."""

_logger = logging.getLogger(__name__)


class ProgressBar(Callback):
    """Shows epoch, loss, validation PSNR, images/s and time left; without a terminal, it only logs (``inversion -v``).

    Args:
        console: where it is shown.
        epochs: the maximum number of epochs.
    """

    def __init__(self, console: Console, epochs: int) -> None:
        self.epochs = epochs
        self.psnr = ""
        self.started = time.monotonic()
        columns = (text_column("{task.description}"), BarColumn(), text_column("{task.fields[numbers]}"),
                   TimeElapsedColumn(), text_column("left"), TimeRemainingColumn())
        self.bars = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self.task = self.bars.add_task("epoch 1", total=None, numbers="")

    def __enter__(self) -> ProgressBar:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.bars.stop()

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        numbers = self.psnr if loss is None else f"loss {loss:.4f} {self.psnr}"
        self.bars.update(self.task, description=f"epoch {epoch}/{self.epochs}", total=self.epochs * steps,
                         completed=(epoch - 1) * steps + step, numbers=numbers)

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.psnr = f"val {metrics['val/psnr']:.2f} dB  {metrics['images_per_second']:.1f} images/s"
        _logger.info("epoch %d/%d: train/loss %.5f, %s", epoch, self.epochs, metrics["train/loss"], self.psnr)


def show_request(console: Console, title: str, plan: Plan, rows: Mapping[str, str]) -> None:
    """Prints a resolved request as a table, then notes on its data and its fallbacks.

    ``rows`` are those of the command, beside those of every command: encoder, weights and device.
    """
    config = plan.config
    everything = {"encoder": ", ".join(f"{cut} ({cut.shape(config.image_size)})" for cut in plan.cuts),
                  "weights": ", ".join(f"{name}: {source}" for name, source in plan.weights.items()), **rows,
                  "device": f"{config.device}, {config.precision}, {config.threads} threads"}
    table = make_table("", "", title=title, show_header=False)
    for name, value in everything.items():
        table.add_row(name, value)
    console.print(table)
    for line in plan.photos.lines():
        console.note(line)
    for fallback in plan.fallbacks:
        console.note(f"{fallback.short} ({fallback.remedy})")


def show_scores(console: Console, name: str, plan: Plan, result: RunResult, remark: str) -> None:
    """Prints the test scores in one line, and which are absent and why in another."""
    scores = [f"{metric.label.removesuffix(' (dB)')} {result.metrics[f'test/{key}']:.3f} ± "
              f"{result.metrics[f'test/{key}_std']:.3f}" for key, metric in METRICS.items()
              if f"test/{key}" in result.metrics]
    exact = exact_note(round(result.metrics.get("test/exact_images", 0)))
    console.print(styled(name, "bold"), f": {', '.join(scores)} on {plan.photos.name}'s test images "
                  f"({'; '.join(filter(None, [exact, remark]))})", sep="", soft_wrap=True)
    if result.absent:
        console.note("; ".join(result.absent))


def show_locations(console: Console, plan: Plan, result: RunResult, connection: Connection) -> None:
    """Prints where the reconstructions are, how to open the run in MLflow, and the fallbacks again."""
    console.print(f"reconstructions: {_reconstructions_of(result)}", soft_wrap=True)
    run = connection.client.get_run(result.run_id)
    for line in page_lines(connection.uri, run.info.experiment_id, result.run_id):
        console.print(line, soft_wrap=True)
    if run.info.experiment_id == DEFAULT_ID and MLFLOW_PROJECT_ENTRY_POINT in run.data.tags:
        console.note("the run is in the experiment Default; with `mlflow run --experiment-name inversion` it is beside "
                     "those of inversion train and inversion-sweep")
    if plan.fallbacks:
        remedies = "; ".join(fallback.remedy for fallback in plan.fallbacks)
        console.print(f"{', '.join(fallback.short for fallback in plan.fallbacks)}: not comparable with DIV2K and "
                      f"ImageNet; {remedies}", soft_wrap=True)


def _reconstructions_of(result: RunResult) -> str:
    """The folder of a run's reconstructions, or the command that downloads them."""
    folder = result.artifact_uri.removeprefix("file://")
    if folder.startswith("/"):
        return f"{folder}/reconstructions"
    return f"mlflow artifacts download --run-id {result.run_id} --artifact-path reconstructions"
