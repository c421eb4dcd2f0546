"""The bar that shows training on a terminal; silent elsewhere, but for the log (``inversion -v``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from types import TracebackType

from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from inversion.console import Console, text_column
from inversion.training.callbacks import Callback

_logger = logging.getLogger(__name__)


class ProgressBar(Callback):
    """Epoch, loss, validation PSNR, images/s and time left."""

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
