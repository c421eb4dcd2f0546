"""A sweep in a terminal, as somebody sees it who has never seen one."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable
from typing import Any

import pytest

from inversion.tracking.views import view_of
from tests.sweeps.lab import PROGRAM

CELLS = "grid:\n  - decoder: [transposed_conv]\n    protocol: [image, published]\n    mse_weight: [0.5, 1.0]"
Sweep = Callable[..., Any]


def in_terminal(width: int, *words: object) -> tuple[int, str]:
    """Exit code of ``inversion-sweep`` in a terminal of that width, and all that it showed, without its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen([*PROGRAM, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs,
                               env=environment | {"TERM": "xterm"}, start_new_session=True)
    os.close(theirs)
    shown = b""
    with open(ours, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
    return process.wait(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "")


def test_a_sweep_in_80_columns(lab: Any) -> None:
    code, shown = in_terminal(80, lab.spec(CELLS, epochs=2))
    assert code == 0, shown
    for protocol in ("image", "published"):
        for weight in ("0.5", "1"):
            assert f"vgg16:block1+transposed_conv protocol={protocol} mse_weight={weight}" in shown
    assert re.search(r"^elapsed 0:00:\d\d · remaining (about 0:\d\d:\d\d|time unknown)$", shown, re.MULTILINE)
    assert "process" not in shown
    runs, parent = lab.results().runs, lab.results().parent
    assert all(run.info.run_id[:8] in shown for run in runs)
    page = "http://127.0.0.1:5000/#/experiments/1/runs"
    assert shown.rstrip().splitlines()[-3:] == [
        f"start the MLflow UI: {ui_command(shown)}",
        f"view the study: {page}/{parent.info.run_id}?workflowType=machine_learning",
        f"compare the runs: {page}?workflowType=machine_learning&viewStateShareKey={view_of('tiny')}"]
    assert ui_command(shown).endswith(f"mlflow ui --backend-store-uri sqlite:///{lab.folder}/mlflow.db")


def ui_command(shown: str) -> str:
    return shown.rpartition("start the MLflow UI: ")[2].partition("\n")[0]


def test_the_status_without_a_worker_says_how_to_start_one(lab: Any, queued: Callable[..., None]) -> None:
    queued(CELLS)
    code, shown = in_terminal(80, "--status", "--study", "tiny")
    assert code == 0, shown
    assert shown.splitlines()[:2] == ["study tiny: 4 queued",
                                      "no worker: start one with `inversion-sweep --join --study tiny`"]
    assert max(map(len, shown.splitlines())) <= 80


def test_the_command_that_starts_a_worker_names_a_store_that_is_not_the_folder_s(
    lab: Any, queued: Callable[..., None], sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued()
    (lab.folder / "elsewhere").mkdir()
    monkeypatch.chdir(lab.folder / "elsewhere")
    store = f"sqlite:///{lab.folder}/mlflow.db"
    said = sweep("--status", "--study", "tiny", "--tracking-uri", store).out
    assert f"start one with `inversion-sweep --join --study tiny --tracking-uri {store}`" in said.replace("\n", "")
