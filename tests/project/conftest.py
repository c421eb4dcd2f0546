"""``mlflow run`` of this project, in a store of the test's own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

SMALL = {"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off", "image_size": "32", "epochs": "1",
         "threads": "2"}


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of MLproject."""
    return Path(__file__).parents[2]


@pytest.fixture
def mlflow_run(
    start: Callable[..., subprocess.Popen[str]], root: Path, photo_folder: Path
) -> Callable[..., subprocess.Popen[str]]:
    """``mlflow_run(epochs="2")``: begins ``mlflow run --env-manager local`` of the small run with these changes."""

    def begin(*words: str, **parameters: str) -> subprocess.Popen[str]:
        values = {"data": str(photo_folder)} | SMALL | parameters
        given = [word for name, value in values.items() for word in ("-P", f"{name}={value}")]
        return start("mlflow", "run", str(root), "--env-manager", "local", *given, *words)

    return begin


@pytest.fixture
def all_runs(workplace: Path) -> Callable[[], list[Run]]:
    """Every run in the workplace's store, whatever its experiment."""

    def search() -> list[Run]:
        client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
        return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))

    return search
