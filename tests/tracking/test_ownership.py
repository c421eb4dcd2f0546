"""Which process owns a run, and which runs are dead."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from inversion.tracking.connection import Connection
from inversion.tracking.ownership import (
    BOOT,
    HOST,
    NAMESPACE,
    PID,
    STARTED,
    end_dead,
    find_running,
    owner_is_alive,
    owner_tags,
    same_owner,
)
from inversion.tracking.tracked_run import begin_run


def test_a_run_begun_here_names_its_process_from_the_first_moment(connection: Connection) -> None:
    run = begin_run(connection, "name")
    tags = connection.client.get_run(run.run_id).data.tags
    assert tags.items() >= owner_tags().items()
    assert tags["mlflow.source.name"] == "inversion train"
    assert [found.verdict for found in find_running(connection)] == ["alive"]


def test_a_resumed_run_is_never_running_under_its_dead_process(
        connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = owner_tags() | {STARTED: "1.0"}
    run_id = connection.client.create_run(connection.experiment_id, tags=dead).info.run_id
    connection.client.set_terminated(run_id, "KILLED")
    seen = []
    update = connection.client.update_run

    def spy(run_id: str, **changes: str) -> None:
        seen.append(owner_is_alive(connection.client.get_run(run_id).data.tags))
        update(run_id, **changes)

    monkeypatch.setattr(connection.client, "update_run", spy)
    begin_run(connection, "name", resume=run_id)
    assert seen == [True]
    assert connection.client.get_run(run_id).info.status == "RUNNING"


def test_a_run_that_goes_on_by_the_time_it_is_to_be_ended_is_left_alone(
        connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = owner_tags() | {STARTED: "1.0"}
    run_id, other = (connection.client.create_run(connection.experiment_id, tags=dead).info.run_id for _ in range(2))
    found = find_running(connection)
    begin_run(connection, "name", resume=run_id)
    assert [run.run_id for run in end_dead(connection, found)] == [other]
    assert connection.client.get_run(run_id).info.status == "RUNNING"


def test_a_process_is_known_by_host_number_and_start() -> None:
    tags = owner_tags()
    assert owner_is_alive(tags) is True
    assert owner_is_alive(tags | {STARTED: "1.0"}) is False
    assert owner_is_alive(tags | {PID: "4194305"}) is False  # above Linux's largest number
    assert owner_is_alive(tags | {HOST: "elsewhere"}) is None
    assert owner_is_alive({}) is None
    early = {key: tags[key] for key in (HOST, PID, STARTED)}
    assert owner_is_alive(early) is True
    assert owner_is_alive(early | {PID: "4194305"}) is False


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="process numbers have no namespaces here")
@pytest.mark.parametrize("key", [BOOT, NAMESPACE])
def test_what_another_machine_or_container_of_the_same_name_works_on_is_not_called_dead(key: str) -> None:
    tags = owner_tags()
    assert tags[key]
    assert owner_is_alive(tags | {key: "another", PID: "4194305"}) is None
    assert owner_is_alive(tags | {key: "another"}) is None


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="boots are not numbered here")
def test_what_this_machine_worked_on_before_it_was_started_anew_is_dead(connection: Connection) -> None:
    before = owner_tags() | {BOOT: "the one before"}
    assert owner_is_alive(before, local=True) is False
    assert owner_is_alive(before | {HOST: "elsewhere"}, local=True) is None
    assert owner_is_alive(owner_tags(), local=True) is True
    connection.client.create_run(connection.experiment_id, tags=before)
    assert [run.verdict for run in find_running(connection)] == ["dead"]
    server = Connection("http://somewhere", connection.client, connection.experiment_id, connection.experiment)
    assert [run.verdict for run in find_running(server)] == ["unknown"]


def test_two_runs_are_the_same_process_s_if_place_and_number_and_start_agree() -> None:
    tags = owner_tags()
    moved = f"{float(tags[STARTED]) + 4:.2f}"
    assert same_owner(tags, tags | {"inversion.kind": "run", STARTED: moved}), "the clock was set"
    for other in ({HOST: "elsewhere"}, {PID: "1"}, {STARTED: "1.0"}, {BOOT: "another"}, {NAMESPACE: "another"}):
        assert not same_owner(tags, tags | other)


def test_a_killed_process_that_nobody_has_waited_for_is_dead() -> None:
    """A container's first process often waits for nobody: what is killed there stays a zombie."""
    process = psutil.Popen(["sleep", "60"])
    tags = owner_tags() | {PID: str(process.pid), STARTED: f"{process.create_time():.2f}"}
    assert owner_is_alive(tags) is True
    process.kill()
    while process.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert owner_is_alive(tags) is False
    process.wait()


@pytest.mark.parametrize("server", [True, False])
def test_a_projects_run_without_a_process_is_dead_only_where_nobody_else_could_be_at_work(
        server: bool, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.tracking.ownership._creator_may_be_alive", lambda run: False)
    run_id = connection.client.create_run(
        connection.experiment_id, tags={"mlflow.project.entryPoint": "main"}).info.run_id
    for name in ("encoder", "decoder"):
        connection.client.log_param(run_id, name, "auto")
    uri = "http://somewhere" if server else connection.uri
    run, = find_running(Connection(uri, connection.client, connection.experiment_id, connection.experiment))
    assert run.verdict == ("unknown" if server else "dead")


def test_a_projects_run_is_alive_while_an_mlflow_run_is_at_work(
        connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.tracking.ownership._creator_may_be_alive", lambda run: True)
    run_id = connection.client.create_run(
        connection.experiment_id, tags={"mlflow.project.entryPoint": "main"}).info.run_id
    for name in ("encoder", "decoder"):
        connection.client.log_param(run_id, name, "auto")
    assert [run.verdict for run in find_running(connection)] == ["alive"]


@pytest.fixture
def project_process(start: Callable[..., object], tmp_path: Path) -> None:
    """A process that looks like ``mlflow run``."""
    program = tmp_path / "mlflow"
    program.write_text("#!/bin/sh\nsleep 60\n")
    start("sh", str(program), "run", ".")


@pytest.mark.usefixtures("project_process")
def test_an_mlflow_run_at_work_is_seen_among_the_processes() -> None:
    from inversion.tracking.ownership import _creator_may_be_alive

    def run_begun_at(seconds: float) -> Any:
        return SimpleNamespace(info=SimpleNamespace(start_time=int(seconds * 1000)))

    with subprocess.Popen([sys.executable, "-c", "input()", "mlflow", "run"], stdin=subprocess.PIPE) as creator:
        assert _creator_may_be_alive(run_begun_at(time.time() + 1))
        creator.communicate(b"\n")
    assert not _creator_may_be_alive(run_begun_at(1e9)), "a run that is older than the process was not made by it"
