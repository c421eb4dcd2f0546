"""The output of ``train`` and ``optimize``: the resolved request, a progress bar, the scores, where results are."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_PROJECT_ENTRY_POINT
from rich.progress import BarColumn, Progress

from inversion.config.resolve import Plan
from inversion.console import Console, make_table, styled, text_column
from inversion.metrics import METRICS, exact_note
from inversion.runs.train import RunResult
from inversion.tracking.connection import Connection
from inversion.tracking.ui import page_lines
from inversion.training.callbacks import Callback

if TYPE_CHECKING:
    from rich.console import RenderableType

DEFAULT_ID = "0"
"""The id of the experiment Default, in which ``mlflow run`` creates its runs unless it is given another."""

_logger = logging.getLogger(__name__)


class TwoLines(Progress):
    """A bar with the times on one line, and the ``numbers`` of its task on the next: together they fit 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (styled(str(task.fields["numbers"])) for task in self.tasks)


class ProgressBar(Callback):
    """Shows epoch, times, loss, validation PSNR, the best so far and images/s; without a terminal, it only logs
    (``inversion -v``).

    Args:
        console: where it is shown.
        epochs: the maximum number of epochs.
        clock: seconds that only ever increase.
    """

    def __init__(self, console: Console, epochs: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.epochs = epochs
        self.clock = clock
        self.psnr = ""
        self.best: tuple[float, int] | None = None
        self.started = clock()
        self.first_step: tuple[float, int] | None = None
        columns = (text_column("{task.description}"), BarColumn(bar_width=None), text_column("{task.fields[times]}"))
        self.bars = TwoLines(*columns, console=console, disable=not console.is_terminal, transient=True, expand=True)
        self.task = self.bars.add_task("epoch 1", total=None, numbers="", times="")

    def __enter__(self) -> ProgressBar:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.bars.stop()

    def on_preparation(self, what: str, done: int, total: int) -> None:
        self.bars.update(self.task, description=what, total=total, completed=done, numbers="",
                         times=f"elapsed {_whole(self.clock() - self.started)}")

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        done, total = (epoch - 1) * steps + step, self.epochs * steps
        numbers = " · ".join(filter(None, ["" if loss is None else f"loss {loss:.4f}", self.psnr]))
        self.bars.update(self.task, description=f"epoch {epoch}/{self.epochs}", total=total, completed=done,
                         numbers=numbers, times=self._times(done, total))

    def _times(self, done: int, total: int) -> str:
        """Elapsed and remaining time; the latter from the steps since this process began or resumed the run."""
        now = self.clock()
        elapsed = f"elapsed {_whole(now - self.started)}"
        if done == total:
            return f"{elapsed} · scoring the test images"
        if self.first_step is None:  # the time before it was spent on building the model
            self.first_step = now, done
            return elapsed
        began, first = self.first_step
        left = (now - began) / (done - first) * (total - done) if done > first else None
        return elapsed if left is None else f"{elapsed} · remaining about {_whole(left)}"

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        value = metrics["val/psnr"]
        if self.best is None or value > self.best[0]:
            self.best = value, epoch
        self.psnr = (f"val {value:.2f} dB · best {self.best[0]:.2f} dB (epoch {self.best[1]}) · "
                     f"{metrics['images_per_second']:.1f} images/s")
        _logger.info("epoch %d/%d: train/loss %.5f, %s", epoch, self.epochs, metrics["train/loss"], self.psnr)


def _whole(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


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
    """Prints where the reconstructions are, the pages of the run and its study in MLflow, and the fallbacks again."""
    console.print(f"reconstructions: {_reconstructions_of(result)}", soft_wrap=True)
    run = connection.client.get_run(result.run_id)
    study = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
    pages = {"view the run": result.run_id} | ({"view the study": study} if study else {})
    for line in page_lines(connection, pages):
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
