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

from benchmarks.measuring import THREADS, Peak

MODULES = {"plain": "benchmarks.plain_tasks", "ours": "benchmarks.our_tasks"}


@click.command()
@click.argument("side", type=click.Choice(list(MODULES)))
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("argument", default="")
def main(side: str, name: str, folder: Path, argument: str) -> None:
    """Does one task and prints its result."""
    tasks = importlib.import_module(MODULES[side]).TASKS
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    with Peak() as peak:
        result = tasks[name](folder, argument)
    sys.stdout.write(json.dumps(result | {"peak_mb": peak.bytes / 2**20}) + "\n")


if __name__ == "__main__":
    main()
