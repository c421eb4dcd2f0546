"""How the queue grows: the time to add, to claim, to finish and to look, with ever more runs in it.

Usage: ``python benchmarks/queue_growth.py [--runs 500 --runs 2000] [--storage URL]``. The ratio of
the last number of runs to the first says how an operation grows.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable
from statistics import median

import click
import optuna
from rich.console import Console
from rich.table import Table

from inversion.config.run_config import RunConfig
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.queue.storage import open_storage

REPEATS = 20


def filled(url: str, runs: int) -> tuple[Queue, float]:
    """A queue with so many runs, and the seconds that adding each took."""
    storage = open_storage(url)
    queue = Queue(storage, optuna.create_study(storage=storage, study_name=uuid.uuid4().hex, direction="maximize"))
    config = RunConfig().model_dump()
    began = time.perf_counter()
    queue.add([Queued(f"run {number}", config, f"{number:032x}", []) for number in range(runs)])
    return queue, (time.perf_counter() - began) / runs


def timed(call: Callable[[], object]) -> float:
    """Median milliseconds of a call."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return 1000 * median(times)


def measure(url: str, runs: int) -> dict[str, float]:
    """Milliseconds of each operation with so many runs in the queue."""
    queue, adding = filled(url, runs)

    def claim_and_finish() -> None:
        entry = queue.claim()
        assert entry is not None  # noqa: S101
        queue.complete(entry.trial._trial_id, 20.0, "0" * 32, {"test/psnr": 20.0})

    return {
        "add one run": 1000 * adding,
        "add a spec that is there": timed(lambda: queue.add([Queued("run", {}, f"{n:032x}", []) for n in range(runs)])),
        "claim and finish one": timed(claim_and_finish),
        "read all (--status, live table)": timed(queue.entries),
        "look for dead workers": timed(lambda: queue.recover_stale_trials(patient=False)),
    }


@click.command()
@click.option("--runs", multiple=True, type=int, default=(500, 2000), show_default=True)
@click.option("--storage", help="A database that can be filled [default: a new SQLite file]")
def main(runs: tuple[int, ...], storage: str | None) -> None:
    """Prints a row for each operation."""
    with tempfile.TemporaryDirectory() as folder:
        results = {number: measure(storage or f"sqlite:///{folder}/queue.db", number) for number in runs}
    table = Table("operation", *(f"{number} runs" for number in runs), "ratio")
    for name in results[runs[0]]:
        values = [results[number][name] for number in runs]
        table.add_row(name, *(f"{value:.1f} ms" for value in values), f"{values[-1] / values[0]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
