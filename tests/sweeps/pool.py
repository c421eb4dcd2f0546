"""Workers that do what a test says or work in its process, and grids for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inversion.errors import InversionError
from inversion.models import part_files
from inversion.sweeps.workers.local import WorkerSpec, require_writable
from inversion.sweeps.workers.worker import work
from inversion.training.stop import StopRequest

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


class WorkersHere(WorkerPool):
    """The worker processes of a command, of which one works in the process of the test: another one would import
    PyTorch and MLflow again, which takes longer than the run.

    It knows what its spec, as text, tells it: of users' own files it executes only those that the command trusts.
    """

    def __init__(self, count: int, gpus: Sequence[str], folder: Path) -> None:
        super().__init__(self._work)
        require_writable(folder)
        self.per_machine = count
        self.gpus = gpus
        self.failures: list[str] = []

    def start(self, order: WorkerSpec) -> None:
        self.spec = order.to_text()

    def _work(self) -> None:
        known = part_files._known.copy()
        part_files._known.clear()
        try:
            work(WorkerSpec.from_text(self.spec), StopRequest())
        except InversionError as error:
            self.failures.append(f"worker 1: {error}")
        finally:
            part_files._known.update(known)

    def count_alive(self) -> int:
        return len(self.steps)

    def errors(self) -> list[str]:
        return self.failures
