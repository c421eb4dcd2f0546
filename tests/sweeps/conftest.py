"""Small studies in real processes, and what they leave in the tracking store and in the queue."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

import psutil
import pytest

from inversion.cli.app import run_command
from inversion.cli.sweep import cli
from inversion.sweeps import actions
from inversion.sweeps.queue.storage import open_storage
from inversion.sweeps.workers import driver
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.worker import work
from inversion.training.stop import StopRequest
from tests.sweeps.bench import Bench, do_at_once
from tests.sweeps.lab import GRID, PROGRAM, SHORT, Lab, Outcome, Results, begin
from tests.sweeps.pool import WorkerPool, WorkersHere

RUN_SECONDS = 3.0
"""How long a run trains that something is to happen in the middle of: killing it takes a moment."""


@pytest.fixture(scope="session")
def make_lab(photo_folder: Path) -> Callable[..., Lab]:
    """``make_lab(folder)``: a lab in a folder that has been entered."""
    return lambda folder, start=begin: Lab(folder, photo_folder, start)


@pytest.fixture(scope="session")
def epochs(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
    make_lab: Callable[..., Lab],
) -> int:
    """As many epochs of a tiny run as take ``RUN_SECONDS`` here: machines differ by a factor of ten."""
    folder = tmp_path_factory.mktemp("pace")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        lab = make_lab(folder)
        outcome = lab.finish(lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]", epochs=10))
        assert outcome.code == 0, outcome.err
    took = min(run.data.metrics["train_seconds"] / run.data.metrics["epochs_run"] for run in lab.results().runs)
    return min(max(ceil(RUN_SECONDS / took), 10), 500)


@pytest.fixture(scope="session")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
    make_lab: Callable[..., Lab], epochs: int,
) -> Results:
    """What the study of ``long_spec`` comes to one run after the other, when nobody touches it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        lab = make_lab(folder)
        outcome = lab.finish(lab.spec(GRID, epochs=epochs), "--side-by-side", 1)
    assert outcome.code == 0, outcome.err
    return lab.results()


@pytest.fixture
def long_spec(lab: Lab, epochs: int) -> Path:
    """A spec of four runs that take long enough for something to happen in the middle of them."""
    return lab.spec(GRID, epochs=epochs)


@pytest.fixture
def lab(workplace: Path, make_lab: Callable[..., Lab]) -> Iterator[Lab]:
    """A workplace for sweeps; no driver and no worker is left of them afterwards."""
    yield make_lab(workplace)
    for process in psutil.process_iter(["cmdline", "cwd"]):
        here = process.info["cwd"] == str(workplace.resolve())  # other tests may be running beside these
        if here and {PROGRAM[-1], "inversion.cli.worker"} & set(process.info["cmdline"] or []):
            with suppress(psutil.NoSuchProcess):
                process.kill()


@pytest.fixture
def worker_processes() -> None:
    """With this, the workers of ``sweep`` are processes of their own."""


@pytest.fixture
def sweep(
    request: pytest.FixtureRequest, lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """``sweep("tiny.yaml", ...)``: ``inversion-sweep`` in this process, and its worker too (``WorkersHere``)."""
    if "worker_processes" not in request.fixturenames:
        monkeypatch.setattr(actions, "Processes", WorkersHere)
        monkeypatch.setattr(driver, "READ_SECONDS", 0.01)

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        code = run_command(cli, [str(word) for word in words])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def work_here(lab: Lab) -> Callable[..., None]:
    """Works on the study in this process, so that a test can put itself in the way."""

    def run(side_by_side: int = 1) -> None:
        work(WorkerSpec("tiny", f"sqlite:///{lab.folder}/inversion-queue.db", f"sqlite:///{lab.folder}/mlflow.db",
                   "inversion", side_by_side=side_by_side), StopRequest())

    return run


@pytest.fixture
def queued(lab: Lab, sweep: Callable[..., Outcome]) -> Callable[..., None]:
    """``queued(text, **base)``: a study that is queued and not worked on yet."""

    def queue(text: str = SHORT, *words: object, **base: object) -> None:
        outcome = sweep(lab.spec(text, **base), "--workers", 0, *words)
        assert outcome.code == 0, outcome.err

    return queue


@pytest.fixture(scope="session")
def empty_queue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a queue without studies, to be copied: making one takes most of a second."""
    file = tmp_path_factory.mktemp("queue") / "queue.db"
    open_storage(f"sqlite:///{file}").engine.dispose()
    return file


@pytest.fixture
def bench(tmp_path: Path, empty_queue: Path) -> Iterator[Bench]:
    """An empty queue in an SQLite file."""
    bench = Bench(f"sqlite:///{shutil.copy(empty_queue, tmp_path)}")
    yield bench
    bench.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """An empty queue, in an SQLite file and in PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("bench")
        return
    bench = Bench(request.getfixturevalue("postgres"))
    yield bench
    bench.close()


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """``at_once(4, prepare, work)``: what ``work(prepare())`` returned in 4 processes that began it together."""
    return do_at_once


@pytest.fixture
def done(queued: Callable[..., None], work_here: Callable[[], None]) -> Callable[..., None]:
    """``done(text)``: a study of which every run is finished."""

    def do(text: str = SHORT, **base: object) -> None:
        queued(text, epochs=1, **base)
        work_here()

    return do


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Callable[..., WorkerPool]:
    """``pool(first, second)``: the workers of the next command; the driver looks after them every second."""

    def hire(*steps: Callable[[], object]) -> WorkerPool:
        hired = WorkerPool(*steps)
        monkeypatch.setenv("INVERSION_GRACE_SECONDS", "3")
        monkeypatch.setattr(driver, "READ_SECONDS", 0.01)
        monkeypatch.setattr(actions, "make_pool", lambda *_: hired)
        return hired

    return hire
