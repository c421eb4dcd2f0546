"""The shipped smoke spec, killed on the way: still its 44 runs, each once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

pytestmark = pytest.mark.acceptance

RUNS = 44


def test_the_smoke_study_killed_three_times_is_finished_with_each_configuration_once(
    lab: Any, make_results: Callable[..., Any]
) -> None:
    left = make_results(MlflowClient(f"sqlite:///{lab.folder}/mlflow.db"), "inversion",
                        f"sqlite:///{lab.folder}/inversion-queue.db", "smoke")

    def done() -> int:
        return [trial.state for trial in left.trials].count(TrialState.COMPLETE)

    for kill in range(3):
        process = lab.start("smoke.yaml", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lab.until(lambda: done() >= 8 * (kill + 1), 300, process)  # noqa: B023
        lab.kill_all(process)
    outcome = lab.finish("smoke.yaml", seconds=600)
    assert outcome.code == 0, outcome.err
    assert [trial.state for trial in left.trials].count(TrialState.COMPLETE) == RUNS
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    assert len(left.by_digest) == RUNS
