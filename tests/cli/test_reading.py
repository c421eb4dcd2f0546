"""Commands that only read make nothing, and say of a store that is away or refuses what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine, inspect

from inversion.cli.app import run_command
from inversion.cli.report import cli as report_cli
from inversion.cli.sweep import cli as sweep_cli
from inversion.tracking.connection import connect

Command = Callable[..., Any]
RUN = "0" * 32


@pytest.fixture
def commands(inversion: Command, capsys: pytest.CaptureFixture[str], photo_folder: Path,
             workplace: Path) -> dict[str, Command]:
    """Every command that only reads, by name; each is given further words."""

    def other(command: Any, *words: str) -> Command:
        def run(*more: str) -> Any:
            capsys.readouterr()
            code = run_command(command, [*words, *more])
            out, err = capsys.readouterr()
            return type("Outcome", (), {"code": code, "out": out, "err": err})

        return run

    picture = str(next((photo_folder / "test").iterdir()))
    return {
        "doctor": lambda *more: inversion("doctor", *more),
        "evaluate": lambda *more: inversion("evaluate", RUN, *more),
        "reconstruct": lambda *more: inversion("reconstruct", RUN, picture, "--output", "out", *more),
        "resume": lambda *more: inversion("train", "--resume", RUN, *more),
        "best": lambda *more: inversion("evaluate", "--best-of", "tiny", *more),
        "optimize": lambda *more: inversion("optimize", "--study", "tiny", "--every-layer", *more),
        "status": other(sweep_cli, "--status", "--study", "tiny"),
        "seeds": other(sweep_cli, "--seeds-for", "undecided", "--study", "tiny"),
        "remove": other(sweep_cli, "--remove", "1", "--study", "tiny"),
        "join": other(sweep_cli, "--join", "--study", "tiny"),
        "report": other(report_cli, "tiny", "--output", "report"),
    }


READING = ["doctor", "evaluate", "best", "reconstruct", "resume", "optimize", "status", "seeds", "remove", "join",
           "report"]
"""``optimize`` reads a study before it trains for it."""


@pytest.mark.parametrize("name", READING)
def test_in_a_fresh_folder_nothing_is_made(name: str, commands: dict[str, Command], workplace: Path) -> None:
    (workplace / "mlflow.db").unlink()
    outcome = commands[name]()
    if name == "doctor":
        assert (outcome.code, outcome.err) == (0, "")
        assert "no tracking store here yet" in " ".join(outcome.out.split())
    else:
        assert outcome.code == 2
        assert f"sqlite:///{workplace}/mlflow.db does not exist" in outcome.err
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("words", [("list",), ("list", "vgg16")])
def test_a_list_makes_nothing(words: tuple[str, ...], inversion: Command, workplace: Path) -> None:
    (workplace / "mlflow.db").unlink()
    assert inversion(*words).code == 0
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize("name", ["status", "seeds", "remove", "join", "report", "best", "optimize"])
def test_a_study_of_another_folder_is_told_with_the_store_that_was_looked_into(
        name: str, commands: dict[str, Command], workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_DATA", str(workplace / "data"))
    outcome = commands[name]()
    assert outcome.code == 2
    assert f"sqlite:///{workplace}/mlflow.db" in outcome.err
    assert "'tiny'" in outcome.err
    assert outcome.err.count("\n") == 1
    assert [path.name for path in workplace.iterdir()] == ["mlflow.db"]


def test_a_misspelt_study_of_this_folder_is_told_with_the_nearest(
        commands: dict[str, Command], workplace: Path) -> None:
    client, tags = MlflowClient(f"sqlite:///{workplace}/mlflow.db"), {"inversion.kind": "study"}
    client.create_run(client.create_experiment("inversion"), tags=tags | {"inversion.study": "tini"})
    for name in ("status", "seeds", "remove", "join", "report", "best"):
        assert "Did you mean 'tini'?" in commands[name]().err, name


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("uri", ["sqlite:///elsewhere/mlflow.db", "./runs", "file:///no/such/folder"])
def test_a_place_that_is_named_and_not_there_is_told(
        name: str, uri: str, commands: dict[str, Command], workplace: Path) -> None:
    outcome = commands[name]("--tracking-uri", uri)
    assert outcome.code == 2
    assert "does not exist" in outcome.err
    assert outcome.err.count("\n") == 1
    assert [path.name for path in workplace.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("name", READING)
def test_a_store_without_runs_gets_no_experiment_and_no_lock_file(
        name: str, commands: dict[str, Command], workplace: Path) -> None:
    outcome = commands[name]()
    assert outcome.code == (0 if name == "doctor" else 2), outcome.err
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    assert [each.name for each in client.search_experiments()] == ["Default"]
    assert [path.name for path in workplace.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("name", READING)
def test_an_empty_database_gets_no_tables(
        name: str, commands: dict[str, Command], make_postgres: Callable[[], str]) -> None:
    url = make_postgres()
    outcome = commands[name]("--tracking-uri", url)
    assert outcome.code == 2
    assert "is empty: nothing has been logged there yet" in outcome.err
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("name", ["status", "join"])
def test_an_empty_database_becomes_no_queue(
        name: str, commands: dict[str, Command], make_postgres: Callable[[], str]) -> None:
    url = make_postgres()
    outcome = commands[name]("--storage", url)
    assert outcome.code == 2
    assert "has no study 'tiny', and none at all" in outcome.err
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


@pytest.mark.parametrize("name", READING)
def test_an_experiment_that_is_mistyped_is_told_and_not_made(
        name: str, commands: dict[str, Command], workplace: Path) -> None:
    outcome = commands[name]("--experiment", "Defualt")
    assert outcome.code == 2
    # for which it is where to log, what the study's queue knows, and where to look first
    if name not in ("evaluate", "status", "seeds", "remove", "join"):
        assert "has no experiment 'Defualt'. Known: Default. Did you mean 'Default'?" in outcome.err
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    assert [each.name for each in client.search_experiments()] == ["Default"]


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize(("status", "told"), [(401, "rejects the request"), (403, "rejects the request"),
                                              (503, "does not answer")])
def test_a_server_that_refuses_or_is_away_is_told_as_that(
        name: str, status: int, told: str, commands: dict[str, Command], stand_in: Any) -> None:
    stand_in.refuse(status)
    outcome = commands[name]("--tracking-uri", stand_in.address)
    assert outcome.code == 2
    assert f"tracking server {stand_in.address} {told}" in outcome.err
    assert f"HTTP {status}" in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize(("status", "told"), [(403, "rejects the request"), (500, "is unreachable")])
def test_a_server_that_answers_first_and_then_does_not_is_told_in_one_line(
        name: str, status: int, told: str, commands: dict[str, Command], stand_in: Any) -> None:
    """Not as a run or a study that is not there."""
    connect(stand_in.address)  # there is an experiment to look into
    for path in ("/mlflow/runs/get", "/mlflow/runs/search"):
        stand_in.refuse(status, path=path)
    outcome = commands[name]("--tracking-uri", stand_in.address)
    assert outcome.code == 1
    assert f"error: the tracking store {told}: " in outcome.err
    assert f"HTTP {status}" in outcome.err
    assert "Traceback" not in outcome.err


def test_a_report_that_cannot_be_logged_is_written_and_told_all_the_same(
        stand_in: Any, commands: dict[str, Command], workplace: Path) -> None:
    client = MlflowClient(stand_in.address)
    experiment_id = client.create_experiment("reported")
    run = client.create_run(experiment_id, tags={"inversion.kind": "study", "inversion.study": "tiny"})
    client.set_terminated(run.info.run_id)
    stand_in.refuse(413, "PUT", "index.html")
    outcome = commands["report"]("--tracking-uri", stand_in.address, "--experiment", "reported")
    assert outcome.code == 1
    assert "client_max_body_size" in outcome.err
    assert (workplace / "report" / "index.html").is_file()
    assert "report: " in outcome.out
