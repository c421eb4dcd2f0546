"""Workers as processes of this machine, with the GPUs divided among them."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from inversion.errors import InversionError, RequestError
from inversion.sweeps.queue.recovery import MAX_DEATHS

STOP_SECONDS = 60.0
"""How long a worker may take to save its checkpoint and requeue its run."""

DEATHS_IN_A_ROW = 2 * MAX_DEATHS
"""A worker that dies this often, with no run done in between, is not restarted. A run that kills its workers fails
earlier, and then counts as done."""

WORKER_SPEC = "INVERSION_WORKER"
"""Environment variable with the spec of a worker process: not an argument, as addresses may contain passwords."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker needs to know: the study, where it is stored, and how to work on it."""

    study: str
    storage: str
    tracking_uri: str
    experiment: str
    driver: int = 0
    """Id of the driver process, which the worker does not outlive; 0 if it runs on another machine."""
    side_by_side: int = 1
    """How many runs it may train at a time on one encoder pass."""
    system_metrics: bool = False
    """Whether its runs log MLflow's system metrics."""
    command: str = ""
    """Id of the command that started it, where that has a limit."""
    max_runs: int = 0
    """How many runs the workers of that command may do together; 0 for no limit."""
    gpu: bool = False
    """Whether it was assigned a GPU: it then never falls back to the CPU."""

    trusted: tuple[str, ...] = ()
    """SHA-256 of the files of users' own in the study that it may execute, beside those on its machine."""

    def to_text(self) -> str:
        """The spec as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> WorkerSpec:
        """The spec that ``to_text`` wrote."""
        values = json.loads(text)
        return cls(**{**values, "trusted": tuple(values["trusted"])})


@dataclass
class Slot:
    """One worker, whose process is restarted when it is killed."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    done: int = -1
    last_message: str = ""
    log: Path = field(default_factory=Path)


class Processes:
    """``count`` worker processes, restarted when they are killed."""

    def __init__(self, count: int, gpus: Sequence[str], folder: Path) -> None:
        require_writable(folder)
        self.spec = ""
        self.per_machine = count
        self.gpus = gpus
        self.folder = folder
        self.slots = [Slot(number) for number in range(count)]

    def start(self, spec: WorkerSpec) -> None:
        """Starts every worker."""
        self.spec = replace(spec, driver=os.getpid(), gpu=bool(self.gpus)).to_text()
        for slot in self.slots:
            self._start(slot)

    def restart_dead(self, count_done: Callable[[], int]) -> list[str]:
        """Restarts workers that were killed; returns a message for each.

        ``count_done`` counts the runs that are done. A worker for which this number does not grow is not restarted
        forever; a run that fails because it killed its workers counts.
        """
        killed = []
        for slot in self.slots:
            if slot.process is None or (code := slot.process.poll()) is None:
                continue
            slot.process = None
            slot.last_message = _last_line(slot.log) if code else ""
            if code < 0:  # by a signal: out of memory, a crash in a library, kill -9
                done = count_done()
                slot.deaths = slot.deaths + 1 if done == slot.done else 1
                slot.done = done
                slot.last_message = f"killed by {signal.Signals(-code).name}"
                killed.append(f"worker {slot.number + 1}: {slot.last_message}")
                if slot.deaths < DEATHS_IN_A_ROW:
                    self._start(slot)
        return killed

    def count_alive(self) -> int:
        """How many workers are alive."""
        return sum(slot.process is not None for slot in self.slots)

    def errors(self) -> list[str]:
        """The last messages of workers that exited early."""
        return [f"worker {slot.number + 1}: {slot.last_message} (log: {slot.log})" for slot in self.slots
                if slot.process is None and slot.last_message]

    def stop(self) -> None:
        """Lets the workers save their checkpoints and requeue their runs."""
        alive = [slot.process for slot in self.slots if slot.process is not None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in alive:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, slot: Slot) -> None:
        slot.log = self.folder / f"worker-{os.getpid()}-{slot.number + 1}.log"
        environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_RUN_ID"}
        environment[WORKER_SPEC] = self.spec
        environment.setdefault("MALLOC_ARENA_MAX", "1")  # see inversion.training.memory
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[slot.number % len(self.gpus)]
        try:
            with slot.log.open("ab") as log:  # a session of its own: Ctrl-C only reaches the driver, which stops it
                slot.process = subprocess.Popen(
                    [sys.executable, "-m", "inversion.cli.worker"], env=environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        except OSError as error:
            raise InversionError(f"worker {slot.number + 1} cannot be started: {error}") from error


def require_writable(folder: Path) -> None:
    """Raises a RequestError if the workers' logs cannot be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise RequestError(f"the workers' logs cannot be written to {folder}: {error.strerror}. "
                           "Set INVERSION_DATA to another folder.") from error


def visible_gpus() -> list[str]:
    """The GPUs, or MIG slices, that workers on this machine can use, as ``CUDA_VISIBLE_DEVICES`` names them.

    CUDA ignores the list from the first invalid name on (such as -1), and all of it if a name is repeated. A process
    sees only the first MIG slice, so PyTorch's device count does not cover the others.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if count == 0 or listed is None:
        return [str(index) for index in range(count)]
    names = [name.strip() for name in listed.split(",")]
    kind = names[0].partition("-")[0]  # MIG, GPU, or else numbers
    form = re.compile(rf"{kind}-." if kind in ("MIG", "GPU") else "[0-9]")
    named = list(itertools.takewhile(form.match, names))
    if len(set(named)) < len(named):
        return []
    return named if kind == "MIG" else named[:count]


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else ""
