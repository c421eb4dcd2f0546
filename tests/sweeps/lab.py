"""A folder in which small studies are run, watched and killed, and what they leave in both stores."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import psutil
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from inversion.sweeps.queue.storage import open_storage
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST

BASE = {"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off", "image_size": "32", "lr": "1e-3",
        "device": "cpu", "threads": "1", "epochs": "2", "patience": "1000"}
GRID = "grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]"
SHORT = "grid:\n  - decoder: [transposed_conv, wavelet]"
PROGRAM = (sys.executable, "-c", "from inversion.cli.sweep import main; main()")


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


def begin(*words: str, **options: Any) -> subprocess.Popen[str]:
    """A process in a session of its own, whose outputs are read unless the options say otherwise."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(words, text=True, start_new_session=True, **options)
