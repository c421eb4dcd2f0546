"""A progress bar of a training run, for terminals and notebooks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress

from inversion.console import Console, styled, text_column
from inversion.training.callbacks import Callback

if TYPE_CHECKING:
    from rich.console import RenderableType

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
