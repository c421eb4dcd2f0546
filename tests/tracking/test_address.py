"""What is an address of a tracking store or a queue, and what only looks like one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from inversion.cli.app import cli, run_command
from inversion.cli.study import cli as study_cli
from inversion.cli.sweep import cli as sweep_cli
from inversion.tracking.address import is_same_database, read_queue, read_store
from inversion.tracking.connection import connect


class Outcome(NamedTuple):
    code: int
    err: str


@pytest.fixture
def here(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, in the tests' workplace."""
    (workplace / "here").mkdir()
    monkeypatch.chdir(workplace / "here")
    return (workplace / "here").resolve()


@pytest.fixture
def told(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``told(command, ...)``: the one line in which a command refuses; it has made nothing in the folder."""

    def run(command: Any, *words: str) -> str:
        assert run_command(command, list(words)) == 2
        out, err = capsys.readouterr()
        line, = err.splitlines()
        assert "SECRET" not in out + err
        assert list(here.iterdir()) == []
        return str(line)

    return run


MISTYPED = [
    ("postgresql:postgres:SECRET@host/db", "is not an address. It is written postgresql://USER@HOST/DATABASE"),
    ("postgresql//me:SECRET@host/db", "is not an address. It is written postgresql://USER@HOST/DATABASE"),
    ("postgresql:/me:SECRET@host/db", "is not an address"),
    ("postgres:me:SECRET@host/db", "is not an address"),
    ("postgresql;//me:SECRET@host/db", "looks like an address but is malformed"),
    ("//me:SECRET@host/db", "looks like an address but is malformed"),
    ("me:SECRET@host/db", "allowed are "),
    ("lab@host/db", "looks like an address but is malformed"),
    ("host=db password=SECRET", "looks like an address but is malformed"),
    ("jdbc:postgresql://me:SECRET@host/db", "Did you mean postgresql?"),
    ("postgresqll://me:SECRET@host/db", "Did you mean postgresql?"),
    ("redis://me:SECRET@host", "allowed are "),
    ("http:/host", "://"),
    ("localhost:5000", "has no scheme"),
    ("postgresql", "is not an address"),
    ("postgresql://", "names no database"),
    ("postgresql://me:SECRET@host", "names no database"),
    ("postgresql://me:SEC@RET/word@host/db", "has a password with an @, which is written %40"),
    ("sqlite://a.db", "is written sqlite:///a.db"),
    ("sqlite:a.db", "is written sqlite:///FILE"),
    ("sqlite:///:memory:", "names no file"),
    ("sqlte:///a.db", "Did you mean sqlite?"),
    ("postgresql://me@ho\nst/db", "contains a control character"),
    ("  ", "is empty"),
]


@pytest.mark.parametrize(("text", "why"), MISTYPED)
def test_what_looks_like_an_address_and_is_none_is_refused_and_makes_no_file(
        text: str, why: str, told: Callable[..., str]) -> None:
    for command, option in (("doctor", "--tracking-uri"), ("train", "--tracking-uri")):
        line = told(cli, command, option, text)
        assert line.startswith(f"error: {option} ")
        assert why in line
    line = told(sweep_cli, "smoke.yaml", "--dry-run", "--storage", text)
    assert line.startswith("error: --storage ")
    assert why in line


@pytest.mark.parametrize(("text", "why"), [
    ("htp://host", "Did you mean http?"),
    ("htps://me:SECRET@host", "Did you mean https?"),
    ("http//host", "is written http://HOST:PORT"),
    ("http://", "names no host"),
    ("http://host:99999", "Port out of range"),
    ("http://host:port", "Port could not be cast"),
    ("http://me:SEC/RET@host", "written %2F"),
    ("http://me:SECRET@host:5000/#/experiments/1", "is the address of a page. The server's own is http://me:***@host:5000"),
    ("mlflow.db", "An SQLite database is written sqlite:///mlflow.db"),
    ("file://elsewhere/mlruns", "names a folder of another machine"),
])
def test_a_store_that_cannot_be_is_refused_from_option_and_environment(
        text: str, why: str, told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert why in told(cli, "evaluate", "0" * 32, "--tracking-uri", text)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", text)
    line = told(cli, "doctor")
    assert line.startswith("error: MLFLOW_TRACKING_URI ")
    assert why in line


@pytest.mark.parametrize(("text", "url"), [
    ("POSTGRESQL://me@host/runs", "postgresql://me@host/runs"),
    ("postgres://me:a%40b@host/runs", "postgresql://me:a%40b@host/runs"),
    ("PostgreSQL+Psycopg://me@host/runs", "postgresql+psycopg://me@host/runs"),
    ("postgresql:///runs", "postgresql:///runs"),
    ("postgresql://host/?dbname=runs", "postgresql://host/?dbname=runs"),
    ("SQLITE:///a.db", "sqlite:///{here}/a.db"),
    ("sqlite:///~/a.db", "sqlite:///{home}/a.db"),
    (" sqlite:///a.db\n", "sqlite:///{here}/a.db"),
    ("sqlite:///a%20b.db", "sqlite:///{here}/a b.db"),
])
def test_an_address_has_one_form_whoever_reads_it(text: str, url: str, here: Path) -> None:
    expected = url.format(here=here, home=Path.home())
    assert read_store(text, "--tracking-uri") == read_queue(text) == expected


@pytest.mark.parametrize(("text", "url"), [
    ("HTTP://host:5000", "http://host:5000"),
    ("https://me:a@b@host/mlflow", "https://me:a@b@host/mlflow"),
    ("http://host:5000/teams/a@b", "http://host:5000/teams/a@b"),
    ("databricks", "databricks"),
    ("databricks://profile", "databricks://profile"),
    ("mlruns", "file://{here}/mlruns"),
    ("file:ml%20runs", "file://{here}/ml%20runs"),
    ("file:///srv/mlruns", "file:///srv/mlruns"),
])
def test_servers_and_folders_are_stores(text: str, url: str, here: Path) -> None:
    assert read_store(text, "--tracking-uri") == url.format(here=here)


@pytest.mark.parametrize("path", ["queue.db", "./runs/queue.db", "runs//queue.db", "~/queue.db", "./my:odd@name.db"])
def test_a_path_is_a_queue_in_a_file(path: str, here: Path) -> None:
    assert read_queue(path) == f"sqlite:///{Path(path).expanduser().absolute()}"


def test_a_file_that_exists_may_have_any_name(here: Path) -> None:
    (here / "my:queue.db").touch()
    assert read_queue("my:queue.db") == f"sqlite:///{here}/my:queue.db"


def test_a_missing_driver_is_named_with_what_to_install(
        workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert run_command(cli, ["doctor", "--tracking-uri", "postgresql://me:SECRET@host/runs"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'inversion[postgresql]'" in err
    assert "SECRET" not in err


@pytest.mark.parametrize("name", ["with a space", "with%20percent", "mit ü", "a+b&c"])
def test_a_folder_of_any_name_has_its_store_and_queue_in_it_and_nothing_beside_it(
        name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inversion.sweeps.queue.storage import open_storage, storage_url

    folder = workplace / "above" / name
    folder.mkdir(parents=True)
    os.rename(workplace / "mlflow.db", folder / "mlflow.db")
    monkeypatch.chdir(folder)
    open_storage(storage_url(None, connect().uri))
    if "%" not in name:  # MLflow makes a folder of the encoded name
        assert [path.name for path in folder.parent.iterdir()] == [name]
    assert {"mlflow.db", "inversion-queue.db"} <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(("one", "other", "same"), [
    ("sqlite:///a.db", "sqlite:///../here/a.db", True),
    ("sqlite:///a.db", "sqlite+pysqlite:///link.db?timeout=3", True),
    ("sqlite:///a.db", "sqlite:///hard.db", True),
    ("sqlite:///a.db", "sqlite:///b.db", False),
    ("postgresql://localhost/x", "postgresql+psycopg://me:pw@127.0.0.1:5432/x", True),
    ("postgresql://[::1]/x", "postgresql:///x?host=/var/run/postgresql", True),
    ("postgresql://host/x", "postgresql://HOST:5432/?dbname=x", True),
    ("postgresql://host/x", "postgresql://host:5433/x", False),
    ("postgresql://host/x", "postgresql://host/y", False),
    ("postgresql://host:port/x", "postgresql://host/x", False),
    ("sqlite:///a.db", "postgresql://host/a.db", False),
    ("http://host", "http://host", False),
])
def test_one_database_is_known_however_it_is_written(one: str, other: str, same: bool, here: Path) -> None:
    (here / "a.db").touch()
    (here / "link.db").symlink_to("a.db")
    os.link("a.db", "hard.db")
    assert is_same_database(one, other) == is_same_database(other, one) == same


def test_a_queue_is_no_tracking_store(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from inversion.sweeps.queue.storage import open_storage

    open_storage(read_queue("queue.db"))
    assert run_command(cli, ["doctor", "--tracking-uri", "sqlite:///queue.db"]) == 2
    assert f"sqlite:///{here}/queue.db is the queue of inversion-sweep" in capsys.readouterr().err


@pytest.mark.parametrize("storage", ["mlflow.db", "sqlite:///../workplace/mlflow.db", "link.db"])
def test_a_queue_in_the_tracking_stores_own_file_is_refused(
        storage: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "link.db").symlink_to("mlflow.db")
    before = (workplace / "mlflow.db").read_bytes()
    assert run_command(sweep_cli, ["smoke.yaml", "--storage", storage]) == 2
    assert "is the tracking store's own database" in capsys.readouterr().err
    assert (workplace / "mlflow.db").read_bytes() == before


ABOUT_A_STUDY = {name: [f"--{name}", *words, "--study", "tiny"] for name, words in {
    "join": (), "status": (), "stop": ("1",), "resume": ("1",), "rerun": ("1",), "remove": ("1",), "logs": ("1",),
    "seeds-for": ("undecided",)}.items()}


@pytest.mark.parametrize("words", [["smoke.yaml"], ["smoke.yaml", "--workers", "0"], *ABOUT_A_STUDY.values()],
                         ids=["sweep", "queue", *ABOUT_A_STUDY])
@pytest.mark.parametrize("has_store", [True, False])
def test_a_queue_in_another_tracking_stores_file_is_refused_and_nothing_is_made(
        words: list[str], has_store: bool, workplace: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    """No experiment, and in a fresh folder no store either."""
    other = tmp_path / "other.db"
    before = other.write_bytes((workplace / "mlflow.db").read_bytes()) and other.read_bytes()
    if not has_store:
        (workplace / "mlflow.db").unlink()
    assert run_command(sweep_cli, [*words, "--storage", str(other)]) == 2
    told = (f"queue sqlite:///{other} is the database of an MLflow tracking store" if has_store or "smoke.yaml" in words
            else f"tracking store sqlite:///{workplace}/mlflow.db does not exist")
    assert told in capsys.readouterr().err
    assert other.read_bytes() == before
    assert [path.name for path in workplace.iterdir()] == ["mlflow.db"] * has_store
    assert not has_store or (workplace / "mlflow.db").read_bytes() == before


def test_a_dry_run_tells_that_the_queue_would_be_refused(
        workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (workplace / "mlflow.db").read_bytes()
    (tmp_path / "other.db").write_bytes(before)
    assert run_command(sweep_cli, ["smoke.yaml", "--dry-run", "--storage", str(tmp_path / "other.db")]) == 0
    out, err = capsys.readouterr()
    assert "the real run would refuse: queue sqlite:///" in " ".join((out + err).split())
    assert (workplace / "mlflow.db").read_bytes() == before


def test_an_import_into_such_a_queue_is_refused_and_nothing_is_made(
        workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (workplace / "mlflow.db").read_bytes()
    (tmp_path / "other.db").write_bytes(before)
    (tmp_path / "study.tar.zst").touch()
    assert run_command(study_cli, ["import", str(tmp_path / "study.tar.zst"), "--storage",
                                   str(tmp_path / "other.db")]) == 2
    assert "is the database of an MLflow tracking store" in capsys.readouterr().err
    assert (workplace / "mlflow.db").read_bytes() == before


def test_a_tracking_store_that_is_called_like_the_default_queue_is_refused_before_it_is_made(
        here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(sweep_cli, ["smoke.yaml", "--tracking-uri", "sqlite:///inversion-queue.db"]) == 2
    assert "the default queue sqlite:///" in capsys.readouterr().err
    assert not (here / "inversion-queue.db").exists()


@pytest.mark.parametrize("words", [["--ray", "nosuch.invalid:1"], ["--slurm", "nosuch=1"]], ids=["ray", "slurm"])
def test_workers_that_cannot_be_had_are_refused_before_anything_is_made(
        words: list[str], workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (workplace / "mlflow.db").read_bytes()
    assert run_command(sweep_cli, ["smoke.yaml", *words]) == 2
    assert (workplace / "mlflow.db").read_bytes() == before
    assert [path.name for path in workplace.iterdir()] == ["mlflow.db"]


def test_a_queue_in_the_tracking_stores_postgresql_database_is_refused_before_anything_is_made(
        workplace: Path, make_postgres: Callable[[], str], capsys: pytest.CaptureFixture[str]) -> None:
    import psycopg

    store = make_postgres()
    queue = store.replace("postgresql://127.0.0.1:5432", "postgresql+psycopg://localhost")
    assert run_command(sweep_cli, ["smoke.yaml", "--tracking-uri", store, "--storage", queue]) == 2
    assert "is the tracking store's own database" in capsys.readouterr().err
    with psycopg.connect(store) as database:
        assert database.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)
