"""Small studies in real processes, and what they leave in the tracking store and in the queue."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import optuna
import pandas as pd
import psutil
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import text

from inversion.cli.app import run_command
from inversion.cli.sweep import cli
from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import open_storage
from inversion.sweeps.workers.local import WorkerSpec
from inversion.sweeps.workers.worker import work
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST
from inversion.training.stop import StopRequest

BASE = {"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off", "image_size": "32", "lr": "1e-3",
        "device": "cpu", "threads": "1", "epochs": "2", "patience": "1000"}
GRID = "grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]"
SHORT = "grid:\n  - decoder: [transposed_conv, wavelet]"
PROGRAM = (sys.executable, "-c", "from inversion.cli.sweep import main; main()")
RUN_SECONDS = 3.0
"""How long a run trains that something is to happen in the middle of: killing it takes a moment."""


@dataclass(frozen=True)
class Results:
    """What a study has left: its runs in MLflow and its trials in Optuna."""

    client: MlflowClient
    experiment: str
    storage: str
    study: str

    @property
    def everything(self) -> list[Run]:
        """Every run of the experiment, the parent too."""
        experiment = self.client.get_experiment_by_name(self.experiment)
        return list(self.client.search_runs([experiment.experiment_id])) if experiment else []

    @property
    def runs(self) -> list[Run]:
        """The study's runs, the parent not."""
        return [run for run in self.everything if run.data.tags.get(KIND) == "run"]

    @property
    def parent(self) -> Run:
        """The study's parent run: there is one."""
        parent, = (run for run in self.everything if run.data.tags.get(KIND) == "study")
        return parent

    @property
    def by_digest(self) -> dict[str, Run]:
        """The study's runs by digest: there is one for each."""
        digests = [run.data.tags[DIGEST] for run in self.runs]
        assert len(digests) == len(set(digests)), "two runs with one digest"
        return {run.data.tags[DIGEST]: run for run in self.runs}

    @property
    def trials(self) -> list[FrozenTrial]:
        """Every trial of the queue; none while the study is not there yet."""
        file = self.storage.removeprefix("sqlite:///")
        if file != self.storage and not Path(file).exists():  # whoever is watched makes it
            return []
        try:
            return optuna.load_study(study_name=self.study, storage=watched(self.storage)).trials
        except KeyError:
            return []

    def weights(self, run: Run) -> dict[str, torch.Tensor]:
        """The best epoch's learned weights."""
        path = self.client.download_artifacts(run.info.run_id, "checkpoints/best.pt")
        model: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
        return model

    def scores(self, run: Run) -> pd.DataFrame:
        """Scores of every test image."""
        return pd.read_parquet(self.client.download_artifacts(run.info.run_id, "metrics/test_per_image.parquet"))

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        """A metric by epoch, as it was logged: what was logged twice stands there twice."""
        points = self.client.get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in points]


@cache
def watched(url: str) -> RDBStorage:
    """A queue to look at again and again, over connections that stay open."""
    return open_storage(url, reading=True)


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str


class Lab:
    """A folder with a tracking store and a queue, in which sweeps are run, watched and killed."""

    def __init__(self, folder: Path, photos: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
        self.folder = folder
        self.photos = photos
        self._start = start

    def spec(self, text: str, **base: object) -> Path:
        """Writes a spec of tiny runs; ``text`` is its grid or search. None leaves a parameter of theirs out."""
        everything = BASE | {"data": self.photos} | base
        values = [f'  {name}: "{value}"' for name, value in everything.items() if value is not None]
        lines = ["study: tiny", "base:", *values, text]
        path = self.folder / "tiny.yaml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        """``inversion-sweep`` as a process of its own."""
        return self._start(*PROGRAM, *map(str, words), cwd=self.folder, **options)

    def finish(self, *words: object, seconds: float = 300) -> Outcome:
        """``inversion-sweep`` as a process of its own, to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=seconds)
        return Outcome(process.returncode, out, err)

    def results(self, storage: str | None = None, tracking: str | None = None) -> Results:
        """What the study has left here, or in other stores."""
        return Results(MlflowClient(tracking or f"sqlite:///{self.folder}/mlflow.db"), "inversion",
                       storage or f"sqlite:///{self.folder}/inversion-queue.db", "tiny")

    def workers(self, process: subprocess.Popen[Any]) -> list[psutil.Process]:
        """The worker processes of a driver."""
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            return [child for child in children if "inversion.cli.worker" in child.cmdline()]
        except psutil.Error:
            return []

    def kill_all(self, process: subprocess.Popen[Any]) -> None:
        """Kills a driver and its workers at once, as a power cut does."""
        workers = self.workers(process)
        process.kill()
        for worker in workers:
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        process.wait()

    def until(self, what: Callable[[], bool], seconds: float, process: subprocess.Popen[Any] | None = None) -> None:
        """Waits for something to come true, while a process is alive."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, f"not within {seconds} s"
            assert process is None or process.poll() is None, process.communicate() if process else ""
            time.sleep(0.05)

    def require_equal(self, left: Results, right: Results) -> None:
        """The same configurations, and of each the same weights, scores and curves, to the bit."""
        ours, theirs = left.by_digest, right.by_digest
        assert ours.keys() == theirs.keys()
        for digest, run in ours.items():
            other = theirs[digest]
            weights, others = left.weights(run), right.weights(other)
            assert weights.keys() == others.keys()
            assert all(torch.equal(weights[name], others[name]) for name in weights)
            pd.testing.assert_frame_equal(left.scores(run), right.scores(other), check_exact=True)
            for metric in ("train/loss", "val/loss", "val/psnr", "lr"):
                assert left.history(run, metric) == right.history(other, metric)


@pytest.fixture(scope="session")
def make_lab(photo_folder: Path) -> Callable[..., Lab]:
    """``make_lab(folder)``: a lab in a folder that has been entered."""
    return lambda folder, start=_start: Lab(folder, photo_folder, start)


def _start(*words: str, **options: Any) -> subprocess.Popen[str]:
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(words, text=True, start_new_session=True, **options)


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
def make_results() -> Callable[..., Results]:
    """``make_results(client, experiment, storage, study)``: what any study has left."""
    return Results


@pytest.fixture
def sweep(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``sweep("tiny.yaml", ...)``: ``inversion-sweep`` in this process (its workers are processes of their own)."""

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


S = TypeVar("S")
T = TypeVar("T")


def do_at_once(count: int, prepare: Callable[[], S], work: Callable[[S], T]) -> list[T]:
    """Does ``work(prepare())`` in ``count`` processes, which begin the work together; returns what each returned.

    The processes are forked: they need not import MLflow and torch again, which takes seconds each. What is open here
    must be closed before, because connections to a database do not survive a fork.
    """
    context = multiprocessing.get_context("fork")
    barrier, outcomes = context.Barrier(count), context.Queue()

    def run(number: int) -> None:
        try:
            prepared = prepare()
            barrier.wait(timeout=60)
            outcomes.put((number, work(prepared), None))
        except BaseException:
            barrier.abort()
            outcomes.put((number, None, traceback.format_exc()))

    processes = [context.Process(target=run, args=(number,), daemon=True) for number in range(count)]
    for process in processes:
        process.start()
    results: dict[int, Any] = {}
    for _ in processes:
        number, result, error = outcomes.get(timeout=120)
        assert error is None, error
        results[number] = result
    for process in processes:
        process.join()
    return [results[number] for number in range(count)]


def kill_when(ready: Callable[[], object]) -> None:
    """Does something in a process of its own, which is then killed by SIGKILL."""

    def run() -> None:
        try:
            ready()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


class Bench:
    """The queue of one study, opened as often as a test likes: here, and in processes of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"study-{uuid.uuid4().hex[:8]}"
        self.storages: list[RDBStorage] = []

    def open(self) -> Queue:
        """The queue, with connections of its own."""
        storage = self.storage()
        return Queue(storage, optuna.create_study(storage=storage, study_name=self.name, direction="maximize",
                                                  load_if_exists=True))

    def storage(self) -> RDBStorage:
        """The storage that the queue lies in, with connections of its own."""
        with pytest.MonkeyPatch.context() as patch:  # most of the time goes into reading Optuna's migrations again
            patch.setattr("optuna.storages._rdb.storage._VersionManager.check_table_schema_compatibility",
                          lambda versions: None)
            self.storages.append(open_storage(self.url))
        return self.storages[-1]

    def at_once(self, count: int, work: Callable[[Queue], T]) -> list[T]:
        """What ``work(queue)`` returned in ``count`` processes that began it together.

        They queue slowly: whoever is not kept out gets in between what another one has read and what it writes.
        """
        def open_slow() -> Queue:
            queue = self.open()
            add = queue.study.add_trial

            def add_slowly(trial: FrozenTrial) -> None:
                time.sleep(0.01)
                add(trial)

            queue.study.add_trial = add_slowly  # type: ignore[method-assign]
            return queue

        self.close()
        return do_at_once(count, open_slow, work)

    def kill_after(self, work: Callable[[Queue], object]) -> None:
        """Does ``work(queue)`` in a process that is killed then, before it can tidy up."""
        self.close()
        kill_when(lambda: work(self.open()))

    def silence(self, seconds: int = 100) -> None:
        """Sets every heartbeat back, as if nobody had been heard of for so long."""
        storage = self.storage()
        back = (f"datetime(heartbeat, '-{seconds} seconds')" if self.url.startswith("sqlite")
                else f"heartbeat - interval '{seconds} seconds'")
        with storage.engine.begin() as connection:
            connection.execute(text(f"update trial_heartbeats set heartbeat = {back}"))

    def close(self) -> None:
        """Closes all connections; a queue opens its own again when it is used."""
        for storage in self.storages:
            storage.engine.dispose()


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
