"""PyTorch's number of threads: a run's own, from the first tensor on, and set by nothing that only plans or shows."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from inversion.cli.app import cli, run_command
from inversion.runs import load as trained
from inversion.runs import optimize as optimize_run
from inversion.runs import prepare as experiment
from inversion.training import device

Command = Callable[..., Any]


@pytest.fixture
def threads_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], list[int]]:
    """``threads_at(module, "function")``: PyTorch's number of threads at each call of the function from now on."""
    def watch(module: Any, name: str) -> list[int]:
        noted, function = [], getattr(module, name)

        def noting(*arguments: Any, **named: Any) -> Any:
            noted.append(torch.get_num_threads())
            return function(*arguments, **named)

        monkeypatch.setattr(module, name, noting)
        return noted

    return watch


Watch = Callable[[object, str], list[int]]


def test_a_run_is_prepared_without_and_built_with_its_threads(train: Command, threads_at: Watch) -> None:
    prepared, built = threads_at(experiment, "load_cached"), threads_at(experiment, "build")
    assert train(threads=3, train_limit=1).code == 0
    assert (prepared, built, torch.get_num_threads()) == ([1], [3], 3)


def test_an_optimisation_builds_its_encoders_with_its_threads(
        inversion: Command, workplace: Path, photo_folder: Path, threads_at: Watch) -> None:
    built = threads_at(optimize_run, "build_encoders")
    outcome = inversion("optimize", "--data", str(photo_folder), "--weights", "random", "--lpips-weights", "off",
                        "--image-size", "32", "--steps", "1", "--test-limit", "1", "--threads", "3")
    assert (outcome.code, built) == (0, [3])


def test_an_evaluation_has_the_threads_of_its_run(
        train: Command, inversion: Command, all_runs: Callable[[], list[Any]], threads_at: Watch) -> None:
    assert train(threads=3, train_limit=1).code == 0
    run, = all_runs()
    torch.set_num_threads(1)
    loaded = threads_at(trained, "load_packed")
    assert inversion("evaluate", run.info.run_id, "--test-limit", "1").code == 0
    assert loaded == [3]


def test_threads_beyond_the_cores_are_warned_of_in_one_line_and_kept(
        train: Command, all_runs: Callable[[], list[Any]], monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    device._warn_about_threads.cache_clear()
    monkeypatch.setattr(device, "usable_cores", lambda: 2)
    assert train(threads=7, train_limit=1, precision="fp32").code == 0
    line, = caplog.messages
    assert line.startswith("threads=7, but this process may use 2 cores")
    run, = all_runs()
    assert (run.data.params["threads"], torch.get_num_threads()) == ("7", 7)


@pytest.mark.parametrize(("given", "wanted"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_leave_the_cores_to_others_unless_told_otherwise(
    given: str | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    assert run_command(cli, ["list", "wavelet"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == wanted
