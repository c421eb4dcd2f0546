"""What both sides of the comparison measure with: tasks by name, a clock, the peak of memory, the same random input."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil
import torch
from torch import Tensor

THREADS_VARIABLE = "BENCHMARK_THREADS"
THREADS = int(os.environ.get(THREADS_VARIABLE, "2"))
BATCH = 4
WARM_UP = 8
STEPS = 32
EPOCHS = 30
TWENTIETH = {"train": 32, "val": 8, "test": 5}
"""DIV2K's 640, 160 and 100 photographs, scaled down evenly: whole runs train on these."""

Task = Callable[[Path, str], dict[str, float]]
"""Takes the folder of the photographs and an argument; the result's ``value`` is seconds unless it says otherwise."""


class Tasks(dict[str, Task]):
    """Tasks of one side by their names."""

    def add(self, name: str) -> Callable[[Task], Task]:
        """Decorates the function that does a task."""
        def register(function: Task) -> Task:
            self[name] = function
            return function

        return register


class Peak:
    """The largest resident set of this process while the block runs, looked at every 20 ms.

    The system's own counter is restarted by our runs, which measure themselves, and begins at the parent's value.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, process.memory_info().rss)


def timed(call: Callable[[], object], repeats: int, warm_up: int = 2) -> float:
    """Median seconds of a call."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return median(times)


def random_batch() -> Tensor:
    """Images ``(4, 3, 224, 224)``."""
    return torch.rand(BATCH, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def random_heads(count: int) -> list[Tensor]:
    """Queries, keys and values of 56×56 tokens of 128 channels, for two images: ``(2, heads, 3136, 128 / heads)``."""
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(2, count, 3136, 128 // count, generator=chance).requires_grad_() for _ in range(3)]
