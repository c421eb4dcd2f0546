"""The process of one worker: ``python -m inversion.cli.worker``, with its spec in the environment."""

from __future__ import annotations

import logging
import os
import sys

import click
import psutil

from inversion.cli.app import run_command
from inversion.console import log_to_stderr
from inversion.errors import InterruptedRunError
from inversion.sweeps.workers.local import WORKER_SPEC, WorkerSpec
from inversion.tracking.masking import mask_logs
from inversion.training.stop import stop_on_signals


@click.command()
def main() -> None:
    """Works on a study until no run is left, or until the process that started it has ended.

    Raises:
        InterruptedRunError: a stop was requested.
    """
    log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s", logging.INFO)
    mask_logs()
    spec = WorkerSpec.from_text(os.environ.pop(WORKER_SPEC))
    driver = next((parent for parent in psutil.Process().parents() if parent.pid == spec.driver), None)
    if driver is None:  # it died while this process was being started
        raise InterruptedRunError(f"the process that started it ({spec.driver}) was killed")
    with stop_on_signals(driver) as stop:
        from inversion.sweeps.workers.worker import work

        work(spec, stop)
    if stop.reason is not None:
        raise InterruptedRunError(stop.reason)


if __name__ == "__main__":
    sys.exit(run_command(main, []))
