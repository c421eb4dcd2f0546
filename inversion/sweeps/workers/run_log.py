"""The log of a run: what its worker logs while it has the run. A file on the worker's machine, and an artifact."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from inversion.console import LogFormatter
from inversion.data.datasets import default_data_dir
from inversion.errors import AbandonedRunError, InversionError
from inversion.files import safe_name
from inversion.metrics import decibels
from inversion.tracking.connection import Connection, require_answer
from inversion.tracking.lifecycle import describe_failure
from inversion.tracking.masking import mask_logs
from inversion.tracking.store_errors import is_lost, is_refused, reason
from inversion.tracking.tracked_run import UPLOAD_SECONDS, TrackedRun
from inversion.training.callbacks import Callback

FOLDER = "logs"
"""Artifacts of a run: a log for each worker that had it, in the order of their names."""

LAYOUT = "%(asctime)s %(levelname)s %(message)s"
TRIAL = "trial"
"""Attribute of a log record that belongs to the run of this trial alone. The others belong to every run that the worker
has: those that it trains together."""

_logger = logging.getLogger(__name__)


def log_folder(study: str, run_id: str) -> Path:
    """Where the logs of a run are on its worker's machine until they are uploaded for the last time."""
    return default_data_dir() / "sweeps" / study / FOLDER / run_id


class RunLog(Callback):
    """Writes the log of a run while the block runs, and uploads it: at the beginning, about as often as checkpoints,
    and at the end. Errors of the block are logged.

    Args:
        connection: the tracking store.
        study: the study of the run.
        trial_id: the claimed trial.
        name: the name of the run.
    """

    def __init__(self, connection: Connection, study: str, trial_id: int, name: str) -> None:
        self.connection = connection
        self.study = study
        self.trial_id = trial_id
        self.name = name
        self._run: TrackedRun | None = None
        self._folder = Path()
        self._handler: logging.FileHandler | None = None
        self._uploaded_at = 0.0

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._log_end(error)
        if self._handler is None:
            return
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()
        if not isinstance(error, AbandonedRunError):
            self._upload_last()

    def on_begin(self, run_id: str) -> None:
        self._run = TrackedRun(self.connection, run_id)
        self._folder = log_folder(self.study, run_id)
        place = f"{platform.node()}, process {os.getpid()}"
        file = self._folder / (f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}_{safe_name(platform.node())}_{os.getpid()}.log")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._handler = logging.FileHandler(file, encoding="utf-8")
        except OSError as error:
            _logger.warning("run %s has no log: %s", run_id, error)
            return
        self._handler.setFormatter(LogFormatter(LAYOUT))
        self._handler.addFilter(self._is_ours)
        logging.getLogger().addHandler(self._handler)
        mask_logs()
        self._say(logging.INFO, "run %s on %s", run_id, place)
        self._upload()

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        values = ", ".join(f"{name} {decibels(value) if name.endswith('psnr') else f'{value:.4g}'}"
                           for name, value in metrics.items())
        self._say(logging.INFO, "epoch %d: %s", epoch, values)

    def on_checkpoint(self, files: Sequence[Path], final: bool) -> None:
        if self._handler and not final and time.monotonic() - self._uploaded_at >= UPLOAD_SECONDS:
            self._upload()

    def _is_ours(self, record: logging.LogRecord) -> bool:
        return getattr(record, TRIAL, self.trial_id) == self.trial_id

    def _say(self, level: int, message: str, *values: object) -> None:
        _logger.log(level, f"%s: {message}", self.name, *values, extra={TRIAL: self.trial_id})

    def _log_end(self, error: BaseException | None) -> None:
        if error is None:
            self._say(logging.INFO, "finished")
        elif isinstance(error, InversionError | KeyboardInterrupt) or is_lost(error) or is_refused(error):
            _, kind, message = describe_failure(error)
            self._say(logging.WARNING, "ended: %s: %s", kind, message)
        else:
            _logger.error("%s: failed", self.name, exc_info=error, extra={TRIAL: self.trial_id})

    def _upload(self) -> None:
        """Uploads the log, and those of workers that died at the run on this machine.

        Raises:
            AbandonedRunError: another process has taken over the run.
            MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``TrackedRun.upload``.
        """
        assert self._run is not None  # noqa: S101
        self._run.confirm()
        self._run.upload(sorted(self._folder.glob("*.log")), FOLDER)
        self._uploaded_at = time.monotonic()

    def _upload_last(self) -> None:
        """The outcome of the run is recorded: where the store fails now, the log stays on this machine."""
        try:
            require_answer(self.connection.uri)  # MLflow itself would retry for minutes
            self._upload()
            shutil.rmtree(self._folder, ignore_errors=True)
        except Exception as error:
            _logger.warning("the log of run %s is only on this machine, in %s: %s", self._run and self._run.run_id,
                            self._folder, reason(error))
