"""Tags, names and runs that users edit or add in MLflow: the study is what its configurations say."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric

from inversion.report.data.collect import collect
from inversion.tracking.connection import connect
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST, STUDY
from tests.sweeps.pool import GRID, ONE, PARENT_TAG, WorkerPool

Sweep = Callable[..., Any]


def test_tags_that_were_edited_are_put_right_and_nothing_is_done_again(
    lab: Any, done: Callable[..., None], sweep: Sweep
) -> None:
    done()
    client, parent = lab.results().client, lab.results().parent
    one, other = lab.results().runs
    for key in (KIND, STUDY, PARENT_TAG):
        client.delete_tag(one.info.run_id, key)
    client.set_tag(other.info.run_id, DIGEST, "mine")
    for key in (KIND, STUDY):
        client.delete_tag(parent.info.run_id, key)
    client.update_run(parent.info.run_id, name="Friday's [/b] study")
    outcome = sweep(lab.spec(GRID, epochs=1), "--workers", 0)
    assert (outcome.code, outcome.err) == (0, "")
    assert "again" not in outcome.out
    for run in (one, other):
        tags = client.get_run(run.info.run_id).data.tags
        assert {key: tags[key] for key in (KIND, STUDY, DIGEST, PARENT_TAG)} == {
            key: run.data.tags[key] for key in (KIND, STUDY, DIGEST, PARENT_TAG)}
    assert lab.results().parent.info.run_id == parent.info.run_id
    assert lab.results().parent.info.run_name == "Friday's [/b] study"  # that is the user's to say


def test_names_in_tables_come_from_the_configuration(
    lab: Any, done: Callable[..., None], sweep: Sweep, pool: Callable[..., WorkerPool]
) -> None:
    done()
    client, results = lab.results().client, lab.results()
    names = {"vgg16:block1+transposed_conv", "vgg16:block1+wavelet"}
    for name in ("the same", "", "x" * 900, "[bold]x[/b]\n\x1b[31m"):
        for run in results.runs:
            client.set_tag(run.info.run_id, "mlflow.runName", name)
        pool()
        outcome = sweep(lab.spec(GRID, epochs=1))
        assert (outcome.code, outcome.err) == (0, "")
        board = Path(client.download_artifacts(results.parent.info.run_id, "leaderboard.csv")).read_text()
        assert {row["run"] for row in csv.DictReader(board.splitlines())} == names
        assert all(name in outcome.out for name in names)
        data = collect(connect(f"sqlite:///{lab.folder}/mlflow.db"), "tiny")
        assert {run.name for run in data.runs} == names


def test_runs_made_by_hand_below_the_study_are_no_configurations_of_it(
    lab: Any, done: Callable[..., None], sweep: Sweep, pool: Callable[..., WorkerPool]
) -> None:
    done()
    client, parent = lab.results().client, lab.results().parent
    for tags in ({PARENT_TAG: parent.info.run_id}, {PARENT_TAG: parent.info.run_id, KIND: "run", STUDY: "tiny"}):
        run = client.create_run(parent.info.experiment_id, tags=tags)
        client.log_batch(run.info.run_id, metrics=[Metric("test/psnr", 99.0, 0, 0)])
        client.set_terminated(run.info.run_id)
    pool()
    outcome = sweep(lab.spec(GRID, epochs=1))
    assert (outcome.code, outcome.err) == (0, "")
    board = Path(client.download_artifacts(parent.info.run_id, "leaderboard.csv")).read_text()
    assert board.count("\n") == 3
    assert lab.results().parent.data.tags["inversion.runs"] == "2 finished"


@pytest.mark.parametrize("status", ["RUNNING", "FINISHED"])
def test_the_run_of_mlflow_run_becomes_the_study_s_unless_it_has_ended(
    status: str, lab: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that was left from before must not turn a finished run into a study."""
    connection = connect(f"sqlite:///{lab.folder}/mlflow.db")
    run_id = connection.client.create_run(connection.experiment_id, run_name="mine").info.run_id
    connection.client.update_run(run_id, status=status)
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    assert sweep(lab.spec(ONE, epochs=1), "--workers", 0).code == 0
    assert (lab.results().parent.info.run_id == run_id) == (status == "RUNNING")
    assert lab.results().parent.info.run_name == "tiny"
    run = connection.client.get_run(run_id)
    assert run.info.run_name == ("tiny" if status == "RUNNING" else "mine")
