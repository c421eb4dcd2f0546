"""Sweeps on real services: PostgreSQL as queue and behind MLflow, a tracking server that dies, a full disk."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from tests.sweeps.lab import SHORT

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]



def epoch_reached(results: Any, epoch: int) -> bool:
    """Whether a run at work has reported an epoch."""
    return any(trial.state == TrialState.RUNNING and (trial.last_step or 0) >= epoch for trial in results.trials)


def test_four_workers_share_postgresql_as_queue_and_as_tracking_store(
    lab: Any, make_postgres: Callable[[], str]
) -> None:
    queue, tracking = make_postgres(), make_postgres()
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1, 2, 3]")
    outcome = lab.finish(spec, "--workers", 4, "--storage", queue, "--tracking-uri", tracking, seconds=400)
    assert outcome.code == 0, outcome.err
    left = lab.results(storage=queue, tracking=tracking)
    assert [trial.state for trial in left.trials] == [TrialState.COMPLETE] * 8
    assert len({trial.user_attrs["owner"]["inversion.pid"] for trial in left.trials}) == 4
    assert len(left.by_digest) == 8
    assert {run.info.status for run in left.everything} == {"FINISHED"}


def test_a_tracking_server_that_is_away_for_half_a_minute_costs_no_metric(
    lab: Any, tracking_server: Any, make_postgres: Callable[[], str], epochs: int
) -> None:
    queue = make_postgres()
    process = lab.start(lab.spec(SHORT, epochs=epochs), "--storage", queue, "--tracking-uri", tracking_server.address)
    left = lab.results(storage=queue, tracking=tracking_server.address)
    lab.until(lambda: epoch_reached(left, 3), 90, process)
    tracking_server.kill()
    time.sleep(30)
    tracking_server.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    # a server that dies in the middle of an answer ends an attempt at the run, and the next one goes on with it
    states = [trial.state for trial in left.trials]
    assert states.count(TrialState.COMPLETE) == 2, out
    assert set(states) <= {TrialState.COMPLETE, TrialState.FAIL}
    assert len(left.by_digest) == 2
    for run in left.by_digest.values():
        assert run.info.status == "FINISHED"
        for metric in ("train/loss", "val/loss", "val/psnr", "lr"):
            assert [step for step, _ in left.history(run, metric)] == list(range(1, epochs + 1))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with little room."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_runs_clearly_and_they_go_on_when_there_is_room(
    lab: Any, small_disk: Path, long_spec: Path
) -> None:
    there = f"data_dir={small_disk}"
    process = lab.start(long_spec, "--set", there)
    left = lab.results()
    lab.until(lambda: epoch_reached(left, 2), 90, process)
    filler = small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096):
            pass
    out, err = process.communicate(timeout=200)
    assert process.returncode == 1, err
    assert "cannot write the checkpoint" in out
    assert "No space left on device" in out
    filler.unlink(missing_ok=True)
    assert lab.finish(long_spec, "--set", there, "--retry-failed").code == 0
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    assert len(left.by_digest) == 4


@pytest.mark.parametrize("what", ["queue", "tracking"])
def test_a_place_that_cannot_be_written_is_told_in_one_line(
    what: str, lab: Any, long_spec: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    nowhere = f"sqlite:///{tmp_path}/file/below.db"
    option = "--storage" if what == "queue" else "--tracking-uri"
    outcome = lab.finish(long_spec, option, nowhere)
    assert outcome.code == 2
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert "cannot be opened" in outcome.err


def test_a_queue_that_cannot_grow_ends_in_one_line(lab: Any, long_spec: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    process = lab.start(long_spec, preexec_fn=small_files, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    _, err = process.communicate(timeout=120)
    assert process.returncode in (1, 2)
    assert err.strip().splitlines()[-1].startswith("error: ")
    assert "I/O error" in err or "full" in err
