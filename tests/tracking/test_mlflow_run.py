"""The death of the ``mlflow run`` that started a process stops it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from inversion.tracking.mlflow_run import find_mlflow_run

Launch = Callable[..., subprocess.Popen[bytes]]

CHILD = """
import sys, time
from pathlib import Path
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.training import stop as module
module.POLL_SECONDS = 0.02
with stop_with_mlflow_run() as stop:
    Path(sys.argv[1] + ".ready").touch()
    end = time.monotonic() + 20
    while stop.reason is None and time.monotonic() < end:
        time.sleep(0.01)
Path(sys.argv[1] + ".part").write_text(stop.reason or "nothing")
Path(sys.argv[1] + ".part").rename(sys.argv[1])
"""

LAUNCHER = """
import subprocess, sys
subprocess.run(%s)
"""


@pytest.fixture(autouse=True)
def not_in_a_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)


def test_without_mlflows_run_id_no_launcher_is_looked_for() -> None:
    assert find_mlflow_run() is None


def test_with_a_run_id_and_no_mlflow_run_above_there_is_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setattr(psutil.Process, "parents", lambda self: [])
    assert find_mlflow_run() is None


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.01)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a fake ``mlflow run``, which starts a child that waits for a reason to stop; kills what is left."""
    (tmp_path / "child.py").write_text(CHILD)
    started: list[subprocess.Popen[bytes]] = []
    result = tmp_path / "reason"

    def begin(name: str = "mlflow", through_bash: bool = False, run_id: bool = True) -> subprocess.Popen[bytes]:
        words = [sys.executable, str(tmp_path / "child.py"), str(result)]
        if through_bash:
            words = ["bash", "-c", f"{' '.join(words)}; true"]
        launcher = tmp_path / name
        launcher.write_text(textwrap.dedent(LAUNCHER % repr(words)))
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_RUN_ID"}
        environment |= {"MLFLOW_RUN_ID": "0" * 32} if run_id else {}
        process = subprocess.Popen([sys.executable, str(launcher), "run", "."], env=environment)
        started.append(process)
        wait_for(Path(f"{result}.ready"))
        return process

    yield begin
    for process in started:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for child in children:
            child.kill()
        process.kill()
        process.wait()


@pytest.mark.parametrize("through_bash", [False, True])
def test_the_death_of_the_mlflow_run_above_sets_the_reason(through_bash: bool, launch: Launch, tmp_path: Path) -> None:
    launcher = launch(through_bash=through_bash)
    launcher.kill()
    launcher.wait()
    wait_for(tmp_path / "reason")
    assert (tmp_path / "reason").read_text() == f"the `mlflow run` that started it (process {launcher.pid}) was killed"


def test_a_launcher_that_is_dead_and_not_yet_waited_for_counts_as_dead(launch: Launch, tmp_path: Path) -> None:
    launcher = launch()
    launcher.kill()  # and not waited for: a zombie
    wait_for(tmp_path / "reason")
    assert "was killed" in (tmp_path / "reason").read_text()


@pytest.mark.parametrize(("name", "run_id"), [("other", True), ("mlflow", False)])
def test_the_death_of_another_parent_is_no_reason(name: str, run_id: bool, launch: Launch, tmp_path: Path) -> None:
    launcher = launch(name=name, run_id=run_id)
    child, = psutil.Process(launcher.pid).children()
    launcher.kill()
    launcher.wait()
    time.sleep(0.3)
    assert not (tmp_path / "reason").exists()
    child.terminate()
    wait_for(tmp_path / "reason")
    assert (tmp_path / "reason").read_text() == "SIGTERM received"
