"""The queue of a study in optuna-dashboard."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests

pytestmark = pytest.mark.acceptance


def test_optuna_dashboard_serves_the_study_at_the_address_that_was_printed(
    lab: Any, start: Callable[..., subprocess.Popen[str]]
) -> None:
    pytest.importorskip("optuna_dashboard")
    outcome = lab.finish(lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]"))
    assert outcome.code == 0, outcome.err
    found = re.search("queue (sqlite:.*), tracking store", outcome.out)
    assert found, outcome.out
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start(str(Path(sys.executable).with_name("optuna-dashboard")), found[1], "--port", str(port))
    api = f"http://127.0.0.1:{port}/api/studies"

    def serves() -> bool:
        with suppress(requests.ConnectionError):
            return requests.get(api, timeout=5).ok
        return False

    lab.until(serves, 60)
    study, = requests.get(api, timeout=5).json()["study_summaries"]
    assert study["study_name"] == "tiny"
    trials = requests.get(f"{api}/{study['study_id']}", timeout=5).json()["trials"]
    assert [trial["state"] for trial in trials] == ["Complete"] * 2
    values = {run.data.metrics["best/val_psnr"] for run in lab.results().runs}
    assert {trial["values"][0] for trial in trials} == values
