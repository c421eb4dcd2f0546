"""Whatever dies, and however often: nothing is done twice, nothing is lost, and the numbers are those of an
undisturbed sweep, to the bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

ONE, FOUR = ("--workers", 1, "--side-by-side", 1), ("--workers", 1, "--side-by-side", 4)
"""A single worker on a CPU has four runs at a time if it is not told otherwise."""

KILLER = """
import os, signal, sys
if "inversion.cli.worker" in sys.orig_argv:
    from inversion.sweeps.workers import worker
    train_steps = worker.train_steps
    def kill(prepared, *rest):
        if prepared.plan.config.decoder == "transposed_conv":
            os.kill(os.getpid(), signal.SIGKILL)
        return train_steps(prepared, *rest)
    worker.train_steps = kill
"""
"""What every Python process does first where it finds it as sitecustomize: one configuration kills its worker."""


def is_running(lab: Any) -> bool:
    """Whether a run of the study has logged an epoch and is at work."""
    return any(trial.state == TrialState.RUNNING and trial.intermediate_values for trial in lab.results().trials)


def is_at_work(lab: Any, process: subprocess.Popen[Any]) -> bool:
    """Whether a worker of this driver is in the middle of a run, or the driver is done already."""
    workers = {str(worker.pid) for worker in lab.workers(process)}
    at_work = {trial.user_attrs.get("owner", {}).get("inversion.pid") for trial in lab.results().trials
               if trial.state == TrialState.RUNNING and trial.intermediate_values}
    return bool(workers & at_work) or process.poll() is not None


def has_begun(lab: Any, process: subprocess.Popen[Any]) -> bool:
    """Whether a driver has workers, or is done already."""
    return bool(lab.workers(process)) or process.poll() is not None


def test_killed_at_random_moments_again_and_again_the_sweep_comes_to_the_same(
    lab: Any, undisturbed: Any, long_spec: Path
) -> None:
    chance = random.Random(7)
    for victim, in_a_run in (("everything", True), ("worker", False), ("worker", True), ("driver", True),
                             ("everything", False), ("worker", True)):
        process = lab.start(long_spec, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if in_a_run:
            lab.until(partial(is_at_work, lab, process), 90)
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            lab.until(partial(has_begun, lab, process), 60)
            time.sleep(chance.uniform(3.0, 12.0))
        if process.poll() is not None:
            break
        if victim == "everything":
            lab.kill_all(process)
        elif victim == "driver":
            workers = lab.workers(process)
            process.kill()
            _, alive = psutil.wait_procs(workers, timeout=30)  # they notice, and give back what they were at
            assert not alive
        else:
            for worker in lab.workers(process):
                worker.kill()
            time.sleep(chance.uniform(0.0, 8.0))
            lab.kill_all(process)
    outcome = lab.finish(long_spec)
    assert outcome.code == 0, outcome.err
    left = lab.results()
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    assert len(left.by_digest) == len(left.runs) == 4
    killed = [trial for trial in left.trials if trial.state == TrialState.FAIL and "released" not in trial.user_attrs]
    assert sum(bool(trial.intermediate_values) for trial in killed) >= 2, "no run was killed after its first epoch"
    lab.require_equal(left, undisturbed)


def test_a_run_that_kills_its_worker_is_given_up_and_the_only_worker_does_the_others(lab: Any) -> None:
    (lab.folder / "sitecustomize.py").write_text(KILLER)
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]")
    paths = os.pathsep.join([str(lab.folder), os.environ.get("PYTHONPATH", "")])
    process = lab.start(spec, env=os.environ | {"PYTHONPATH": paths})
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert out.count("killed by SIGKILL") == 5
    left = lab.results()
    assert {run.info.run_name: run.info.status for run in left.runs} == {"vgg16:block1+wavelet": "FINISHED"}
    assert "worker_died: its worker died 5 times" in out
    assert left.parent.info.status == "FAILED"


def test_a_killed_worker_is_replaced_and_its_run_goes_on_from_the_checkpoint(
    lab: Any, undisturbed: Any, long_spec: Path
) -> None:
    process = lab.start(long_spec, *ONE)
    lab.until(lambda: is_running(lab), 90, process)
    worker, = lab.workers(process)
    worker.kill()
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "worker 1: killed by SIGKILL" in out
    assert "waiting to resume from its last checkpoint" in out
    left = lab.results()
    assert [trial.state for trial in left.trials].count(TrialState.FAIL) == 1
    assert len(left.trials) == 5
    lab.require_equal(left, undisturbed)


@pytest.mark.parametrize(("number", "words", "at_work"), [(signal.SIGTERM, ONE, 1), (signal.SIGINT, FOUR, 2)])
def test_a_signal_to_the_driver_leaves_resumable_runs_within_seconds(
    number: int, words: Sequence[object], at_work: int, lab: Any, undisturbed: Any, long_spec: Path
) -> None:
    process = lab.start(long_spec, *words)
    lab.until(lambda: is_running(lab), 90, process)
    began = time.monotonic()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - began < 15
    assert "the same command resumes the study" in err
    left = lab.results()
    assert left.parent.info.status == "KILLED"
    stopped = [run for run in left.runs if run.info.status != "FINISHED"]
    assert [run.info.status for run in stopped] == ["KILLED"] * at_work
    assert all(left.client.download_artifacts(run.info.run_id, "checkpoints/last.pt") for run in stopped)
    assert lab.finish(long_spec).code == 0
    lab.require_equal(lab.results(), undisturbed)


def test_a_preempted_worker_gives_its_run_back_within_seconds(lab: Any, long_spec: Path) -> None:
    process = lab.start(long_spec, *ONE)
    lab.until(lambda: is_running(lab), 90, process)
    worker, = lab.workers(process)
    worker.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "all workers exited with runs still pending: worker 1: SIGTERM received (log: " in err
    released = [trial for trial in lab.results().trials if "released" in trial.user_attrs]
    assert len(released) == 1
    assert released[0].user_attrs["released"].startswith("stopped after step")


def test_two_drivers_at_the_same_second_on_fresh_databases_do_nothing_twice(
    lab: Any, undisturbed: Any, long_spec: Path
) -> None:
    (lab.folder / "mlflow.db").unlink()
    drivers = [lab.start(long_spec), lab.start(long_spec)]
    ended = [driver.communicate(timeout=300) for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], ended
    left = lab.results()
    assert [trial.state for trial in left.trials] == [TrialState.COMPLETE] * 4
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    assert left.parent.data.tags["inversion.runs"] == "4 finished"
    workers = {trial.user_attrs["owner"]["inversion.pid"] for trial in left.trials}
    assert len(workers) == 2
    lab.require_equal(left, undisturbed)


def test_a_dead_study_is_put_in_line_by_looking_at_it(lab: Any, long_spec: Path) -> None:
    process = lab.start(long_spec, *ONE)
    lab.until(lambda: is_running(lab), 90, process)
    lab.kill_all(process)
    left = lab.results()
    assert [run.info.status for run in left.everything].count("RUNNING") == 2  # the run and its study
    outcome = lab.finish("--status", "--study", "tiny")
    assert outcome.code == 0, outcome.err
    assert "1 interrupted" in outcome.out
    assert "RUNNING" not in {run.info.status for run in lab.results().everything}
