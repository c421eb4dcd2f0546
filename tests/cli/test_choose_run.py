"""Which run is meant by an id, the beginning of one, or a name, and which runs cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.errors import RequestError, UnknownNameError
from inversion.tracking.connection import Connection, connect
from inversion.tracking.search import choose_run

NAME = "vgg16:block1+transposed_conv"


@pytest.fixture
def connection(finished: Any, workplace: Path) -> Connection:
    """A copy of the finished run's store."""
    shutil.copy(finished.folder / "mlflow.db", workplace)
    return connect()


@pytest.fixture
def add(connection: Connection) -> Callable[..., Run]:
    """``add("FAILED", name="x")``: a run that never had a model, in the experiment Default unless another is given."""

    def make(status: str = "FINISHED", name: str = NAME, kind: str | None = "run", experiment: str = "0") -> Run:
        client = MlflowClient()
        run = client.create_run(experiment, run_name=name, tags={"inversion.kind": kind} if kind else {})
        client.set_terminated(run.info.run_id, status)
        return client.get_run(run.info.run_id)

    return make


def test_a_run_is_known_by_its_id_its_beginning_or_its_name(connection: Connection, finished: Any) -> None:
    run_id = finished.run.info.run_id
    for text in (run_id, run_id[:4], run_id[:-1], NAME):
        assert choose_run(connection, text).info.run_id == run_id


def test_a_name_means_the_finished_one_of_several(connection: Connection, finished: Any, add: Any) -> None:
    add("FAILED"), add("KILLED"), add(kind="evaluation")
    assert choose_run(connection, NAME).info.run_id == finished.run.info.run_id


def test_a_name_of_two_finished_runs_is_refused_with_their_ids(connection: Connection, finished: Any,
                                                               add: Any) -> None:
    other = add()
    with pytest.raises(RequestError, match="2 runs are called") as error:
        choose_run(connection, NAME)
    assert other.info.run_id in str(error.value)
    assert finished.run.info.run_id in str(error.value)
    assert choose_run(connection, NAME, everywhere=False).info.run_id == finished.run.info.run_id


def test_two_ids_that_begin_alike_are_refused(connection: Connection, finished: Any, add: Any) -> None:
    beginning, twin = finished.run.info.run_id[:4], connection.client.create_run("0", run_name="twin").info.run_id
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("pragma foreign_keys = off")
        for table in ("runs", "tags", "latest_metrics", "params"):
            database.execute(f"update {table} set run_uuid = ? where run_uuid = ?", (beginning + twin[4:], twin))
    with pytest.raises(RequestError, match=f"2 runs are called '{beginning}'"):
        choose_run(connection, beginning)


@pytest.mark.parametrize("text", ["vgg16:block1+transposed", "it's", "a \"b\"", "both ' and \"", "100%", "beef", "-"])
def test_an_unknown_name_is_told_with_the_nearest(connection: Connection, text: str) -> None:
    with pytest.raises(UnknownNameError, match="is called") as error:
        choose_run(connection, text)
    assert NAME in str(error.value)


def test_a_name_with_a_quotation_mark_is_found(connection: Connection, add: Any) -> None:
    run = add(name="it's mine")
    assert choose_run(connection, "it's mine").info.run_id == run.info.run_id


@pytest.mark.parametrize(("status", "kind", "message"), [
    ("FINISHED", "study", "is a study: give one of its runs"),
    ("FINISHED", "evaluation", "is an evaluation"),
    ("FINISHED", "optimize", "has no model"),
    ("FINISHED", None, "was not created by inversion"),
    ("FAILED", "run", "is FAILED: only a FINISHED run has a model"),
    ("KILLED", "run", "is KILLED"),
])
def test_a_run_without_a_model_is_refused(status: str, kind: str | None, message: str, connection: Connection,
                                          add: Any) -> None:
    with pytest.raises(RequestError, match=message):
        choose_run(connection, add(status, "mine", kind).info.run_id)
    with pytest.raises(RequestError, match=message):
        choose_run(connection, "mine")


@pytest.mark.parametrize("words", [["evaluate"], ["reconstruct", "--output", "out", "photo.png"]])
@pytest.mark.parametrize("text", ["0" * 32, "vgg16:block1+transposed"])
def test_both_commands_say_so_in_one_line(words: list[str], text: str, connection: Connection, inversion: Any,
                                          photo_folder: Path, workplace: Path) -> None:
    shutil.copy(photo_folder / "test" / "test0.png", workplace / "photo.png")
    outcome = inversion(*words, text) if words[0] == "evaluate" else inversion(words[0], text, *words[1:])
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert text in outcome.err
    assert not (workplace / "out").exists()


def test_a_finished_run_without_its_model_is_refused(train: Any, inversion: Any, all_runs: Any) -> None:
    assert train().code == 0
    run, = all_runs()
    shutil.rmtree(Path(run.info.artifact_uri).parents[1] / "models")
    outcome = inversion("evaluate", run.info.run_id)
    assert outcome.code == 2
    assert outcome.err == f"error: run {run.info.run_id} has no artifact 'model' that inversion has logged\n"
    assert len(all_runs()) == 1
