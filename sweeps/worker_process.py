"""The process of one worker: ``python -m sweeps.worker_process``, with its order in the environment."""

from __future__ import annotations

import logging
import os
import sys

import click
import psutil

from inversion.cli.console import log_to_stderr
from inversion.cli.group import run_command
from inversion.errors import InterruptedRunError
from inversion.tracking.masking import mask_logs
from inversion.training.interrupt import stop_on_signals
from sweeps.processes import ORDER, Order


@click.command()
def main() -> None:
    """Works on the study of the order until nothing is left, or until the process that started it is gone.

    Raises:
        InterruptedRunError: it was asked to stop.
    """
    log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s", logging.INFO)
    mask_logs()
    order = Order.from_text(os.environ.pop(ORDER))
    driver = next((parent for parent in psutil.Process().parents() if parent.pid == order.driver), None)
    if driver is None:  # it died while this process was being started
        raise InterruptedRunError(f"the process that started it ({order.driver}) was killed")
    with stop_on_signals(driver) as stop:
        from sweeps.work import work

        work(order, stop)
    if stop.reason is not None:
        raise InterruptedRunError(stop.reason)


if __name__ == "__main__":
    sys.exit(run_command(main, []))
