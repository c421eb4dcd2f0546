"""One measurement in a process of its own: ``python -m benchmarks.work plain|ours TASK FOLDER [ARGUMENT]``.

Prints one line of JSON: the value (seconds a unit of work unless the task says otherwise), and the process's peak
memory. A process each, because what one of both does to the allocator or to the caches must not help the other; the
plain side never imports the project.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import click
import torch

from benchmarks.measuring import THREADS, Peak, Task, Tasks

MODULES = {"plain": ["benchmarks.plain_tasks"], "ours": ["benchmarks.our_tasks", "benchmarks.our_logged_tasks"]}


def find(side: str, name: str) -> Task:
    """The task of a side; what is imported for others does not count as its memory."""
    for module in MODULES[side]:
        tasks: Tasks = importlib.import_module(module).TASKS
        if name in tasks:
            return tasks[name]
    raise click.ClickException(f"{side} has no task {name!r}")


@click.command()
@click.argument("side", type=click.Choice(list(MODULES)))
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("argument", default="")
def main(side: str, name: str, folder: Path, argument: str) -> None:
    """Does one task and prints its result."""
    task = find(side, name)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with Peak() as peak:
        result = task(folder, argument)
    sys.stdout.write(json.dumps(result | {"peak_mb": peak.bytes / 2**20}) + "\n")


if __name__ == "__main__":
    main()
