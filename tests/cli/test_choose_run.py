"""Which run is meant by an id, the beginning of one, or a name, and which runs cannot be used."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.errors import RequestError, SeveralErrors, UnknownNameError
from inversion.report.best_run import find_best
from inversion.tracking.choose import choose_resumable, choose_run
from inversion.tracking.connection import Connection, connect
from inversion.tracking.search import search

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
    with pytest.raises(UnknownNameError, match="Known: it's mine"):
        choose_run(connection, "'\"")


@pytest.mark.parametrize("study", ["it's mine", 'a "b"', "'\"", "a`b", "%"])
def test_a_study_with_a_quotation_mark_is_looked_for(study: str, connection: Connection, inversion: Any,
                                                     add_trained: Any) -> None:
    assert f"has no study yet, so none called {study!r}" in inversion("evaluate", "--best-of", study).refused()
    parent = connection.client.create_run(connection.experiment_id, tags={"inversion.kind": "study"})
    connection.client.set_tag(parent.info.run_id, "inversion.study", study)  # as renamed in MLflow's UI
    assert f"study {study} has no finished run" in inversion("evaluate", "--best-of", study).refused()


def test_a_name_finds_the_run_with_a_remark_where_none_has_the_name_alone(connection: Connection, add: Any) -> None:
    one = add(name="a_b (no LPIPS)")
    add(name="axb (no LPIPS)")  # _ is any letter in LIKE
    assert choose_run(connection, "a_b").info.run_id == one.info.run_id
    two = add(name="a_b (sample data)")
    with pytest.raises(RequestError, match="2 runs are called 'a_b'"):
        choose_run(connection, "a_b")
    alone = add(name="a_b")
    assert choose_run(connection, "a_b").info.run_id == alone.info.run_id
    assert choose_run(connection, "a_b (sample data)").info.run_id == two.info.run_id


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


@pytest.fixture
def add_trained(connection: Connection, finished: Any) -> Callable[..., str]:
    """``add_trained("tiny", lr=0.01)``: the id of a scored run of a study, with the finished run's other parameters."""

    def make(study: str, psnr: float = 20.0, status: str = "FINISHED", **parameters: Any) -> str:
        document = copy.deepcopy(finished.document)
        document["parameters"] |= parameters
        document["identity"]["parameters"] |= parameters
        client, experiment = connection.client, connection.experiment_id
        tags = {"inversion.kind": "study", "inversion.study": study}
        if not list(search(connection, f"tags.`inversion.study` = '{study}'")):
            client.create_run(experiment, run_name=study, tags=tags)
        run = client.create_run(experiment, run_name=NAME, tags=tags | {
            "inversion.kind": "run", "inversion.config": json.dumps(document), "inversion.digest": uuid.uuid4().hex})
        for name, value in {"test/psnr": psnr, "test/psnr_std": 1.0}.items():
            client.log_metric(run.info.run_id, name, value)
        client.set_terminated(run.info.run_id, status)
        return str(run.info.run_id)

    return make


def test_a_run_of_a_study_is_known_by_study_and_name(connection: Connection, add_trained: Any) -> None:
    tiny, other = add_trained("tiny"), add_trained("other")
    assert choose_run(connection, f"tiny/{NAME}").info.run_id == tiny
    assert choose_run(connection, f"other/{NAME}").info.run_id == other
    with pytest.raises(UnknownNameError, match=re.escape(f"Did you mean 'tiny/{NAME}'")):
        choose_run(connection, "tiny/vgg16:block1+transposed")
    with pytest.raises(UnknownNameError, match=re.escape(f"Did you mean 'tiny/{NAME}'")):
        choose_run(connection, f"tinny/{NAME}")
    with pytest.raises(RequestError, match="is a study: give one of its runs as tiny/NAME, or --best-of tiny"):
        choose_run(connection, "tiny")


def test_a_name_with_a_slash_is_no_study(connection: Connection, add: Any) -> None:
    run = add(name="vgg16:block1/pool=2+wavelet")
    assert choose_run(connection, "vgg16:block1/pool=2+wavelet").info.run_id == run.info.run_id


def test_parameters_after_a_name_tell_runs_apart_as_a_leaderboard_shows_them(connection: Connection,
                                                                            add_trained: Any) -> None:
    slow, fast = add_trained("tiny", lr=0.0001), add_trained("tiny", lr=0.01)
    assert choose_run(connection, f"tiny/{NAME} lr=0.0001").info.run_id == slow
    assert choose_run(connection, f"tiny/{NAME} lr=0.01").info.run_id == fast
    assert choose_run(connection, f"tiny/{NAME} lr=1e-2").info.run_id == fast
    for wrong in ("lr=0.5", "lr=fast"):
        with pytest.raises(UnknownNameError):
            choose_run(connection, f"tiny/{NAME} {wrong}")


def test_several_runs_of_a_name_are_listed_with_what_tells_them_apart(connection: Connection,
                                                                      add_trained: Any) -> None:
    first, second = add_trained("tiny", 20.25, lr=0.0001), add_trained("tiny", 23.5, lr=0.01)
    with pytest.raises(SeveralErrors, match="2 runs are called") as error:
        choose_run(connection, f"tiny/{NAME}")
    lines = sorted(error.value.lines[1:], key=lambda line: "lr=0.01" in line)
    now = f"{datetime.now():%Y-%m-%d}"
    for line, run_id, rest in zip(lines, (first, second), (("lr=0.0001", "20.25"), ("lr=0.01", "23.50")), strict=True):
        assert line.startswith(f"{run_id}, {NAME} {rest[0]}, study tiny, {now} ")
        assert line.endswith(f", test PSNR {rest[1]} dB")


def test_too_few_digits_of_an_id_are_told(connection: Connection, finished: Any) -> None:
    with pytest.raises(RequestError, match="the beginning of an id has 4 digits or more"):
        choose_run(connection, finished.run.info.run_id[:3])


def test_the_run_to_resume_is_the_one_that_is_not_finished(connection: Connection, add_trained: Any) -> None:
    add_trained("tiny", lr=0.01)
    stopped = add_trained("tiny", status="KILLED", lr=0.02)
    for text in (stopped, stopped[:8], f"tiny/{NAME}"):
        assert choose_resumable(connection, text).info.run_id == stopped


def test_the_best_run_of_a_study_is_the_head_of_its_leaderboard(connection: Connection, add_trained: Any) -> None:
    add_trained("tiny", 20.0, lr=0.01)
    best = add_trained("tiny", 25.0, lr=0.02)
    add_trained("tiny", 30.0, status="KILLED", lr=0.03)
    add_trained("other", 40.0)
    assert find_best(connection, "tiny") == best
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        find_best(connection, "tinny")
    published = add_trained("tiny", 17.0, protocol="published")
    with pytest.raises(SeveralErrors, match="2 groups of runs that cannot be compared") as error:
        find_best(connection, "tiny")
    assert [line[:8] for line in error.value.lines[1:]] == [best[:8], published[:8]]


def test_the_commands_take_the_best_run_of_a_study(inversion: Any, finished: Any, connection: Connection,
                                                   workplace: Path, photo_folder: Path) -> None:
    run_id = finished.run.info.run_id
    connection.client.set_tag(run_id, "inversion.study", "tiny")
    connection.client.create_run(connection.experiment_id, tags={"inversion.kind": "study", "inversion.study": "tiny"})
    outcome = inversion("evaluate", "--best-of", "tiny")
    assert outcome.code == 0, outcome.err
    assert f"below run {run_id}" in outcome.out
    picture = str(photo_folder / "test" / "test0.png")
    outcome = inversion("reconstruct", "--best-of", "tiny", picture, "--output", "out")
    assert outcome.code == 0, outcome.err
    assert (workplace / "out" / "scores.csv").exists()


@pytest.mark.parametrize(("words", "said"), [
    (["evaluate"], "Missing argument 'RUN'. Give one, or --best-of STUDY"),
    (["evaluate", "abcd", "--best-of", "tiny"], "give one of a RUN, --best-of and --study"),
    (["evaluate", "--best-of", "tiny"], "has no study"),
    (["reconstruct", "abcd", "--output", "out"], "give a PICTURE after the run 'abcd'"),
])
def test_a_run_that_is_missing_or_given_twice_is_told(words: list[str], said: str, inversion: Any,
                                                      connection: Connection) -> None:
    assert said in inversion(*words).refused()
