"""``inversion doctor``: what this machine has, and which RUNNING runs nobody works on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.tracking.ownership import HOST, PID, STARTED, owner_tags

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


@pytest.fixture
def client(workplace: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workplace}/mlflow.db")


@pytest.fixture
def doctor(inversion: Command, workplace: Path) -> Callable[..., str]:
    """What ``inversion doctor`` says, without line breaks."""

    def run(*words: str) -> str:
        outcome = inversion("doctor", *words)
        assert (outcome.code, outcome.err) == (0, "")
        return " ".join(outcome.out.split())

    return run


def test_it_shows_the_machine_and_the_store(doctor: Callable[..., str], workplace: Path) -> None:
    told = doctor()
    assert f"Python │ {platform.python_version()}" in told
    for package in ("inversion", "torch", "timm", "mlflow", "optuna"):
        assert f"{package} " in told
    for name in ("vgg16", "resnet34", "vit_small", "pvt_v2_b2", "LPIPS"):
        assert f"weights of {name}" in told
    assert f"tracking store sqlite:///{workplace}/mlflow.db answers" in told
    assert "no run is RUNNING" in told


def test_a_store_that_does_not_answer_is_told_after_the_machine(inversion: Command, workplace: Path) -> None:
    outcome = inversion("doctor", "--tracking-uri", "http://127.0.0.1:1")
    assert outcome.code == 2
    assert "This machine" in outcome.out
    assert outcome.err.startswith("error: tracking server http://127.0.0.1:1 does not answer")
    assert len(outcome.err.splitlines()) == 1


def gone() -> dict[str, str]:
    """Tags of a process of this machine that is no more: this one's number, but started in another time."""
    return owner_tags() | {STARTED: f"{psutil.Process().create_time() - 3600:.2f}"}


def test_a_run_of_another_machine_is_shown_and_left(
        doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    client.create_run("0", tags=owner_tags() | {HOST: "elsewhere", PID: "17"}, run_name="far away")
    told = doctor()
    assert "far away" in told
    assert "process 17 on elsewhere: check it there with inversion doctor" in " ".join(told.replace("│", " ").split())
    assert all_runs()[0].info.status == "RUNNING"


def test_end_ends_a_run_of_another_machine(doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    run_id = client.create_run("0", tags=owner_tags() | {HOST: "elsewhere"}).info.run_id
    other = client.create_run("0", tags=owner_tags() | {HOST: "elsewhere"}).info.run_id
    doctor("--end", run_id)
    statuses = {run.info.run_id: run.info.status for run in all_runs()}
    assert statuses == {run_id: "KILLED", other: "RUNNING"}
    assert client.get_run(run_id).data.tags["inversion.failure"] == "interrupted"


@pytest.mark.parametrize("status", ["FINISHED", None])
def test_end_refuses_what_is_not_running(
        status: str | None, inversion: Command, client: MlflowClient, all_runs: Runs) -> None:
    run_id = "0123456789abcdef"
    if status:
        run_id = client.create_run("0", tags=owner_tags()).info.run_id
        client.set_terminated(run_id, status)
    dead = client.create_run("0", tags=gone()).info.run_id
    outcome = inversion("doctor", "--end", run_id)
    assert outcome.code == 2
    assert run_id in outcome.err
    assert client.get_run(dead).info.status == "RUNNING"
    assert not status or client.get_run(run_id).info.status == status


def test_a_process_that_has_the_number_of_a_dead_one_is_not_taken_for_it(
        doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    client.create_run("0", tags=gone(), run_name="dead")
    assert "ended as KILLED" in doctor()
    run, = all_runs()
    assert run.info.status == "KILLED"
    why = f"process {os.getpid()} on {platform.node()} is gone"
    assert run.data.tags["inversion.failure_message"] == f"found dead: {why}"


@pytest.mark.parametrize("edited", [
    {STARTED: "yesterday"}, {STARTED: ""}, {PID: "a number"}, {PID: "\N{SUPERSCRIPT TWO}"}, {PID: "-1"},
    {PID: "9" * 5000}, {PID: "0.5"}])
def test_tags_that_users_edited_tell_nothing_of_the_process(
        edited: dict[str, str], doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    client.create_run("0", tags=owner_tags() | edited)
    assert "unknown" in doctor()
    assert all_runs()[0].info.status == "RUNNING"


def test_a_clock_that_was_set_does_not_kill_a_living_run(
        doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    client.create_run("0", tags=owner_tags() | {STARTED: f"{psutil.Process().create_time() + 4:.2f}"})
    assert "alive" in doctor()
    assert all_runs()[0].info.status == "RUNNING"


def test_dead_runs_are_found_in_every_experiment_unless_one_is_named(
        doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    for name in ("one", "other"):
        client.create_run(client.create_experiment(name), tags=gone(), run_name=name)
    assert "no run is RUNNING" in doctor("--experiment", "inversion")
    assert "ended as KILLED" in doctor("--experiment", "one")
    assert {run.info.run_name: run.info.status for run in all_runs()} == {"one": "KILLED", "other": "RUNNING"}
    assert "ended as KILLED" in doctor()
    assert {run.info.status for run in all_runs()} == {"KILLED"}


@pytest.mark.parametrize("tags", [{}, {"mlflow.project.entryPoint": "main"}], ids=["plain", "a project's"])
def test_runs_of_other_programs_are_never_ended(
        tags: dict[str, str], doctor: Callable[..., str], client: MlflowClient, all_runs: Runs) -> None:
    client.create_run("0", tags=tags)
    assert "no run is RUNNING" in doctor()
    assert "not created by inversion" in doctor("--experiment", "Default")
    assert all_runs()[0].info.status == "RUNNING"
