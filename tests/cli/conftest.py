"""The command line run in this process, and one whole run that several tests look at."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mlflow.entities import Run, ViewType
from mlflow.tracking import MlflowClient
from PIL import Image

from inversion.cli.app import cli, run_command
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss
from inversion.parallel import usable_cores


class Outcome(NamedTuple):
    """What a command left: exit code and both outputs."""

    code: int
    out: str
    err: str

    def refused(self) -> str:
        """The error's text, after checking that the request was refused and that there is one line of output."""
        assert self.code == 2, self.err
        assert len(self.err.splitlines()) == 1, self.err
        assert self.err.startswith("error: ")
        return self.err.removesuffix("\n")


def options(**parameters: object) -> list[str]:
    """The small run's parameters with changes, as options: ``options(epochs=2)``."""
    small = {"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off", "image_size": 32, "epochs": 1,
             "lr": 1e-3, "threads": min(2, usable_cores())}
    values = {name: value for name, value in (small | parameters).items() if value is not None}
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def inversion(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``inversion("train", ...)``: the command in this process."""

    def run(*words: str) -> Outcome:
        capsys.readouterr()
        code = run_command(cli, list(words))
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def train(inversion: Callable[..., Outcome], workplace: Path, photo_folder: Path) -> Callable[..., Outcome]:
    """``train(epochs=2)``: ``inversion train`` of the small run with these changes; None leaves an option out."""

    def run(*more: str, **parameters: object) -> Outcome:
        return inversion("train", *options(**{"data": photo_folder} | parameters), *more)

    return run


@pytest.fixture(scope="session")
def train_words(photo_folder: Path) -> Callable[..., list[str]]:
    """The same as words, for a process of its own."""
    return lambda **parameters: [sys.executable, "-m", "inversion", "train",
                                 *options(**{"data": photo_folder} | parameters)]


@pytest.fixture
def all_runs(workplace: Path) -> Callable[[], list[Run]]:
    """Every run in the workplace's store, whatever its experiment."""

    def search() -> list[Run]:
        client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
        experiments = client.search_experiments(view_type=ViewType.ALL)
        return list(client.search_runs([e.experiment_id for e in experiments], run_view_type=ViewType.ALL))

    return search


@dataclass(frozen=True)
class FinishedRun:
    """A run of two epochs with LPIPS that a process of its own did, and what that process printed."""

    folder: Path
    run: Run
    printed: subprocess.CompletedProcess[str]
    client: MlflowClient

    @property
    def artifacts(self) -> Path:
        return Path(self.run.info.artifact_uri)

    @property
    def document(self) -> dict[str, Any]:
        """The resolved configuration."""
        content: dict[str, Any] = json.loads((self.artifacts / "config.json").read_text())
        return content


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
    photo_folder: Path, random_trunk: dict[str, torch.Tensor],
) -> FinishedRun:
    """A whole run with LPIPS on, in its own process so that what it prints is what a user sees.

    In fp32, as the model that it logs computes: what that gives is compared with what was scored.
    """
    folder = tmp_path_factory.mktemp("finished")
    torch.save(random_trunk, folder / "alexnet.pth")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        words = options(data=photo_folder, lpips_weights=folder / "alexnet.pth", epochs=2, precision="fp32")
        printed = subprocess.run([sys.executable, "-m", "inversion", "train", *words], text=True, capture_output=True,
                                 check=False)
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("inversion")
    assert experiment is not None, printed.stderr
    run, = client.search_runs([experiment.experiment_id])
    return FinishedRun(folder, run, printed, client)


@pytest.fixture
def trained(finished: Any, workplace: Path) -> Run:
    """The finished run with LPIPS, in a copy of its store in the workplace; its artifacts lie where they were."""
    shutil.copy(finished.folder / "mlflow.db", workplace)
    run: Run = finished.run
    return run


@pytest.fixture
def stop_at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``stop_at_step(3)``: the process gets SIGTERM during the third step from now on, and only then."""
    original = ReconstructionLoss.forward

    def arm(step: int) -> None:
        calls = 0

        def forward(loss: ReconstructionLoss, *arguments: Any) -> LossTerms:
            nonlocal calls
            calls += 1
            if calls == step:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(loss, *arguments)

        monkeypatch.setattr(ReconstructionLoss, "forward", forward)

    return arm


class Made(NamedTuple):
    """What a call left: its exit code and outputs, the folder, and the rows of scores.csv."""

    outcome: Any
    folder: Path
    rows: list[dict[str, str]]

    def pixels(self, name: str) -> np.ndarray[Any, Any]:
        with Image.open(self.folder / name) as image:
            assert (image.format, image.mode) == ("PNG", "RGB")
            return np.asarray(image).astype(int)

    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture
def reconstruct(trained: Run, inversion: Callable[..., Outcome], workplace: Path) -> Callable[..., Made]:
    """``reconstruct("cat.jpg", ...)``: the command with the trained run, into the folder ``out``."""

    def run(*words: str | Path) -> Made:
        outcome = inversion("reconstruct", trained.info.run_id, *map(str, words), "--output", "out")
        folder = workplace / "out"
        rows: list[dict[str, str]] = []
        if (folder / "scores.csv").exists():
            with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        return Made(outcome, folder, rows)

    return run


@pytest.fixture
def picture(workplace: Path) -> Callable[..., Path]:
    """``picture("cat.png", 80, 50)``: a photograph-like picture of that width and height."""

    def make(name: str, width: int = 80, height: int = 50, **save: Any) -> Path:
        path = workplace / name
        path.parent.mkdir(exist_ok=True)
        values = np.random.default_rng(width).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC).save(path, **save)
        return path

    return make


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is built ends the test: that takes seconds and downloads."""

    def refuse(*_: object) -> None:
        pytest.fail("the network was built")

    monkeypatch.setattr("inversion.runs.prepare.build", refuse)
    monkeypatch.setattr("inversion.runs.train.make_trainer", refuse)
