"""A real tracking server over HTTP, with PostgreSQL behind it, and one run in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import requests
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

POSTGRES = os.environ.get("INVERSION_TEST_POSTGRES", "postgresql://127.0.0.1:5432/postgres")
"""A PostgreSQL server on which databases may be made."""
START_SECONDS = 90
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def unavailable(what: str) -> NoReturn:
    """Skips the test; where everything has to be tested it fails instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is needed in CI")
    pytest.skip(f"{what} is needed")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a new database, which is dropped afterwards."""
    psycopg = pytest.importorskip("psycopg")
    name = f"inversion_test_{uuid.uuid4().hex[:12]}"
    try:
        admin = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError:
        unavailable(f"PostgreSQL at {POSTGRES} (or in INVERSION_TEST_POSTGRES)")
    with admin:
        admin.execute(f"create database {name}")
        yield f"{POSTGRES.rpartition('/')[0]}/{name}"
        admin.execute(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def server(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of ``mlflow server``, which keeps artifacts itself."""
    folder = tmp_path_factory.mktemp("server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    words = ["mlflow", "server", "--backend-store-uri", postgres, "--artifacts-destination", str(folder / "artifacts"),
             "--serve-artifacts", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/health", timeout=2).ok
    except requests.RequestException:
        return False


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of the installed chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        unavailable("playwright")
    if not CHROMIUM.exists():
        unavailable(f"a browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 2400})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


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
