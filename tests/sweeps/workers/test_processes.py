"""Workers as processes: what is killed is started again, unless it is killed whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from inversion.config import resolve
from inversion.console import Console
from inversion.errors import RequestError
from inversion.sweeps import actions
from inversion.sweeps.queue.recovery import MAX_DEATHS
from inversion.sweeps.workers.local import DEATHS_IN_A_ROW, WORKER_SPEC, Processes, WorkerSpec, visible_gpus
from inversion.sweeps.workers.worker import work
from inversion.training.stop import StopRequest

WORK = WorkerSpec("tiny", "sqlite:////queue.db", "sqlite:////mlflow.db", "inversion")


class Started:
    """A process that was started, and how it ends."""

    def __init__(self, environment: dict[str, str], log: Any) -> None:
        self.environment = environment
        self.log = Path(log.name)
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """The processes that were started, in their worker_spec; none is a real one."""
    processes: list[Started] = []

    def start(words: list[str], env: dict[str, str], stdout: Any, **options: Any) -> Started:
        processes.append(Started(env, stdout))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return processes


def pool(folder: Path, count: int = 1, gpus: tuple[str, ...] = ()) -> Processes:
    processes = Processes(count, gpus, folder)
    processes.start(WORK)
    return processes


def none_done() -> int:
    return 0


def test_each_worker_has_its_order_its_driver_its_gpu_and_its_log(started: list[Started], tmp_path: Path) -> None:
    assert pool(tmp_path, 3, ("4", "7")).count_alive() == 3
    assert [process.environment["CUDA_VISIBLE_DEVICES"] for process in started] == ["4", "7", "4"]
    assert len({process.log for process in started}) == 3
    spec = WorkerSpec.from_text(started[0].environment[WORKER_SPEC])
    assert (spec.study, spec.storage, spec.driver) == ("tiny", "sqlite:////queue.db", os.getpid())


def test_a_killed_worker_is_told_and_replaced(started: list[Started], tmp_path: Path) -> None:
    workers = pool(tmp_path, 2)
    started[1].code = -signal.SIGKILL
    assert workers.restart_dead(none_done) == ["worker 2: killed by SIGKILL"]
    assert (workers.count_alive(), len(started)) == (2, 3)
    assert workers.restart_dead(none_done) == []


def test_what_a_dead_worker_left_is_put_in_line_before_another_one_is_started(
        started: list[Started], tmp_path: Path) -> None:
    """So that a run that was given up just now is not what stops the worker."""
    workers, alive = pool(tmp_path), list[int]()

    def count_done() -> int:
        alive.append(len(started))
        return 0

    started[0].code = -signal.SIGKILL
    workers.restart_dead(count_done)
    assert (alive, len(started)) == ([1], 2)


def test_a_worker_that_is_killed_whatever_it_does_is_not_started_for_ever(
        started: list[Started], tmp_path: Path) -> None:
    workers = pool(tmp_path)
    for _ in range(DEATHS_IN_A_ROW):
        assert workers.count_alive() == 1
        started[-1].code = -signal.SIGSEGV
        workers.restart_dead(none_done)
    assert workers.count_alive() == 0
    assert workers.errors() == [f"worker 1: killed by SIGSEGV (log: {started[-1].log})"]


def test_runs_that_kill_their_worker_until_they_are_given_up_do_not_stop_it(
        started: list[Started], tmp_path: Path) -> None:
    workers = pool(tmp_path)
    for death in range(1, 6 * MAX_DEATHS + 1):
        started[-1].code = -signal.SIGKILL
        workers.restart_dead(lambda: death // MAX_DEATHS)  # noqa: B023
        assert workers.count_alive() == 1


@pytest.mark.parametrize(("code", "said"), [(0, False), (1, True), (130, True)])
def test_a_worker_that_ended_itself_is_left_alone_and_what_it_said_is_told_unless_all_was_well(
        code: int, said: bool, started: list[Started], tmp_path: Path) -> None:
    workers = pool(tmp_path)
    started[0].log.write_text("INFO something\nerror: SIGTERM received\n")
    started[0].code = code
    assert workers.restart_dead(none_done) == []
    assert (workers.count_alive(), len(started)) == (0, 1)
    assert workers.errors() == ([f"worker 1: SIGTERM received (log: {started[0].log})"] if said else [])


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, int], None]:
    """``cuda("0,1", 2)``: ``CUDA_VISIBLE_DEVICES`` (None: not set), and how many devices PyTorch counts then."""
    def make(listed: str | None, count: int) -> None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if listed is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return make


@pytest.mark.parametrize(("listed", "count", "gpus"), [
    (None, 0, []), (None, 2, ["0", "1"]), ("", 0, []), ("-1", 0, []), ("NoDevFiles", 0, []),
    ("1", 1, ["1"]), ("3,1", 2, ["3", "1"]), (" 3 , 1 ", 2, ["3", "1"]), ("1,9", 1, ["1"]), ("0,-1,1", 1, ["0"]),
    ("0,0", 0, []), ("GPU-8932f937,GPU-d4cb", 2, ["GPU-8932f937", "GPU-d4cb"]), ("GPU-8932f937,1", 1, ["GPU-8932f937"]),
    ("MIG-a,MIG-b", 1, ["MIG-a", "MIG-b"]), ("MIG-a, MIG-b ,MIG-c", 1, ["MIG-a", "MIG-b", "MIG-c"]),
    ("MIG-GPU-8932/1/0,MIG-GPU-8932/2/0", 1, ["MIG-GPU-8932/1/0", "MIG-GPU-8932/2/0"]),
    ("MIG-a", 1, ["MIG-a"]), ("MIG-a,MIG-b", 2, ["MIG-a", "MIG-b"]), ("MIG-a,0,MIG-b", 1, ["MIG-a"]),
    ("MIG-a,,MIG-b", 1, ["MIG-a"]), ("MIG-a,MIG-a", 1, []), ("MIG-a,MIG-b", 0, []),
])
def test_workers_share_out_what_cuda_shows_and_every_mig_slice(
        listed: str | None, count: int, gpus: list[str], cuda: Callable[[str | None, int], None]) -> None:
    cuda(listed, count)
    assert visible_gpus() == gpus


def test_each_worker_has_a_mig_slice_of_its_own(
        started: list[Started], cuda: Callable[[str | None, int], None], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path))
    cuda("MIG-a,MIG-b", 1)
    workers = actions.make_pool("tiny", WORK.storage, WORK.tracking_uri, {"ray": None, "workers": None})
    workers.start(WORK)
    assert [process.environment["CUDA_VISIBLE_DEVICES"] for process in started] == ["MIG-a", "MIG-b"]


def test_a_worker_that_was_given_a_gpu_does_not_work_on_the_cpu_in_its_place(
        started: list[Started], cuda: Callable[[str | None, int], None], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.sweeps.workers.worker.open_storage", lambda url, stop: None)
    monkeypatch.setattr("inversion.sweeps.workers.worker.open_study", lambda *_: SimpleNamespace(may_use_a_gpu=True))
    pool(tmp_path, 1, ("MIG-b",))
    pool(tmp_path)
    given, none = (WorkerSpec.from_text(process.environment[WORKER_SPEC]) for process in started)
    cuda("MIG-b", 0)
    with pytest.raises(RequestError, match=r"was assigned the GPU 'MIG-b' .* CUDA finds no such device"):
        work(given, StopRequest())
    assert not none.gpu


@pytest.mark.parametrize(("workers", "threads", "said"), [
    (1, 4, ""), (2, 2, ""), (8, 1, ""), (4, 0, ""),
    (1, 5, "note: 1 run at a time with threads=5 on 4 cores: queued with threads=4, they would be faster\n"),
    (3, 2, "note: 3 runs at a time with threads=2 on 4 cores: queued with threads=1, they would be faster\n"),
])
def test_more_threads_than_the_workers_have_cores_are_noted(
        workers: int, threads: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (actions, resolve):
        monkeypatch.setattr(module, "usable_cores", lambda: 4)
    console = Console(file=StringIO(), width=30)
    actions.note_too_many_threads(workers, threads, console)
    assert console.file.getvalue() == said  # type: ignore[attr-defined]


def test_logs_that_cannot_be_written_are_told_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=r"logs cannot be written to .*/file/tiny: .*\. Set INVERSION_DATA"):
        Processes(1, (), tmp_path / "file" / "tiny")


def test_a_worker_whose_driver_died_while_it_was_started_ends_at_once(
        tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    spec = WorkerSpec("tiny", f"sqlite:///{tmp_path}/queue.db", f"sqlite:///{tmp_path}/mlflow.db", "inversion", 4194305)
    process = start(sys.executable, "-m", "inversion.cli.worker", env=os.environ | {WORKER_SPEC: spec.to_text()})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the process that started it (4194305) was killed" in err
    assert not (tmp_path / "queue.db").exists()
