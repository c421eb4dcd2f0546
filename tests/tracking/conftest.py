"""One run that was tracked by a real server over HTTP, with PostgreSQL behind it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.tracking.connection import Connection, connect


@dataclass(frozen=True)
class ServedRun:
    """A run that ``inversion train`` did against the server, and what it printed."""

    address: str
    run: Run
    printed: subprocess.CompletedProcess[str]


def train_words(photo_folder: Path, address: str, epochs: int) -> list[str]:
    """A small ``inversion train`` against a server."""
    return [sys.executable, "-m", "inversion", "train", "--encoder", "vgg16:block1", "--weights", "random",
            "--lpips-weights", "off", "--image-size", "32", "--threads", "2", "--epochs", str(epochs),
            "--data", str(photo_folder), "--tracking-uri", address]


@pytest.fixture(scope="module")
def served(
    server: str, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory,
    enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
) -> Iterator[ServedRun]:
    folder = tmp_path_factory.mktemp("client")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        printed = subprocess.run(train_words(photo_folder, server, 12), text=True, capture_output=True, check=False)
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("inversion")
    assert experiment is not None, printed.stderr
    run, = client.search_runs([experiment.experiment_id])
    yield ServedRun(server, run, printed)
    shutil.rmtree(folder)


@pytest.fixture
def connection(workplace: Path) -> Connection:
    return connect()
