"""Workers that do what a test says, and grids for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GRID = "grid:\n  - decoder: [transposed_conv, wavelet]"
ONE = "grid:\n  - decoder: [wavelet]"
PARENT_TAG = "mlflow.parentRunId"


class WorkerPool:
    """Workers that do nothing but what a test says: ``steps`` are done one for each look of the driver."""

    per_machine = 1

    def __init__(self, *steps: Callable[[], object]) -> None:
        self.steps = list(steps)
        self.stopped = False

    def start(self, order: Any) -> None:
        pass

    def restart_dead(self, count_done: Callable[[], int]) -> list[str]:
        if self.steps:
            self.steps.pop(0)()
        return []

    def count_alive(self) -> int:
        return 1

    def errors(self) -> list[str]:
        return []

    def stop(self) -> None:
        self.stopped = True
