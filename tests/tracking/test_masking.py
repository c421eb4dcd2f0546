"""No password is left in what is shown, logged or recorded."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import OperationalError

from inversion.cli.app import cli, run_command
from inversion.tracking import masking
from inversion.tracking.lifecycle import describe_failure
from inversion.tracking.masking import first_line, remember, safe, without_password


@pytest.mark.parametrize(("address", "shown"), [
    ("postgresql://me:a@b/c:d@host/runs", "postgresql://me:***@host/runs"),
    ("postgresql://me@corp:secret@host/runs", "postgresql://me@corp:***@host/runs"),
    ("postgresql://me:what?ever@host/runs", "postgresql://me:***@host/runs"),
    ("postgresql://:secret@host/runs", "postgresql://:***@host/runs"),
    ("postgresql://host/runs?sslpassword=secret&sslmode=require", "postgresql://host/runs?sslpassword=***&sslmode=require"),
    ("postgresql://host/runs?PASSWORD=secret", "postgresql://host/runs?PASSWORD=***"),
    ("mysql://host/runs?x=1&Passwd=secret", "mysql://host/runs?x=1&Passwd=***"),
    ("http://host/?access_key=secret&authToken=secret", "http://host/?access_key=***&authToken=***"),
    ("postgresql://host/runs?pass%77ord=secret", "postgresql://host/runs?pass%77ord=***"),
    ("postgresql://me:pw@host/runs?user=a@b", "postgresql://me:***@host/runs?user=a@b"),
    ("http://[::1]:5000/x", "http://[::1]:5000/x"),
    ("sqlite:////tmp/a:b@c/mlflow.db", "sqlite:////tmp/a:b@c/mlflow.db"),
    ("/tmp/a:b@c/mlflow.db", "/tmp/a:b@c/mlflow.db"),
    ("postgresql:postgres:secret@host/db", "postgresql:***@host/db"),
    ("postgresql//me:secret@host/db", "postgresql//me:***@host/db"),
    ("postgresql:postgres:secret", "postgresql:***"),
    ("host=db password=secret", "host=db password=***"),
    ("[::1]:5000", "[::1]:5000"),
    ("localhost:5000", "localhost:5000"),
])
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize(("address", "said", "shown"), [
    ("postgresql://me:p@ss/word@host/db", "failed to resolve host 'ss'", "failed to resolve host '***'"),
    ("postgresql://me:p@ss/word@host/db", 'database "word@host/db" is unknown', 'database "***@host/db" is unknown'),
    ("http://me:se%2Fcr%40et@host", "Failed to parse: me:se/cr@et@host", "Failed to parse: me:***@host"),
    ("http://me:se%2Fcr%40et@host", "host='cr@et', port=80", "host='***@***', port=80"),
    ("postgresql://me:a b@host/db", "no option a b, or a%20b, or a+b", "no option ***, or ***, or ***"),
    ("postgresql://h/db?sslpassword=open+sesame", "key 'open sesame' is wrong", "key '***' is wrong"),
    ("postgresql:me:hush@h/db", "no file hush@h", "no file ***@h"),
    ("postgresql://me:x1@host/db", "the word x10 and 'x1'", "the word x10 and '***'"),
    ("postgresql://postgres:postgres@host/postgres", 'database "postgres" does not exist',
     'database "postgres" does not exist'),
    ("postgresql://host/db", "see http://me:other@proxy:3128/x?token=abc for more",
     "see http://me:***@proxy:3128/x?token=*** for more"),
    ("postgresql://host/db", "dsn: host=h password='abc' encoder_passes=3 tokens=4",
     "dsn: host=h password='abc' encoder_passes=3 tokens=4"),
])
def test_what_a_driver_says_is_shown_without_any_part_of_the_password(address: str, said: str, shown: str) -> None:
    remember(address)
    assert safe(said) == shown
    error = OperationalError("select 1", {}, Exception(f"{said}\nand more"))
    assert shown in first_line(error)
    assert shown in describe_failure(error)[2]


def test_tokens_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-123\n")
    assert safe("Invalid header value 'Bearer tok-123'") == "Invalid header value 'Bearer ***'"


@pytest.mark.parametrize("name", ["mlflow", "optuna", "anything.else"])
def test_logs_are_masked_with_their_tracebacks_whoever_writes_them(name: str) -> None:
    stream, logger = io.StringIO(), logging.getLogger(name)
    owner = logging.getLogger(name if name in masking.LOGGERS else "")
    handler = logging.StreamHandler(stream)
    owner.addHandler(handler)
    try:
        remember("postgresql://me:hu@sh/1@host/db")
        try:
            raise ValueError("bad part 'hu@sh/1'")
        except ValueError:
            logger.exception("engine of %s could not be made", "postgresql://me:hu@sh/1@host/db")
    finally:
        owner.removeHandler(handler)
    assert "hu" not in stream.getvalue()
    assert "engine of postgresql://me:***@host/db could not be made" in stream.getvalue()
    assert "ValueError: bad part '***'" in stream.getvalue()


def test_a_failed_run_does_not_record_the_password(
        workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The run that ``mlflow run`` has made gets the reason as a tag."""
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    run_id = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace}/mlflow.db")
    from inversion.cli.sweep import cli as sweep_cli

    assert run_command(sweep_cli, ["smoke.yaml", "--storage", "postgresql:me:hush-hush@host/db"]) == 2
    tags = client.get_run(run_id).data.tags
    assert "postgresql:***@host/db" in tags["inversion.failure_message"]
    assert "hush" not in capsys.readouterr().err + str(tags)


def test_an_address_of_mlflow_run_that_is_none_is_one_line(
        workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The run that should be told of the error is out of reach: that must not hide the error."""
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql//me:hush@host/db")
    assert run_command(cli, ["train"]) == 2
    assert "error: MLFLOW_TRACKING_URI postgresql//me:***@host/db is not an address" in capsys.readouterr().err


def test_a_queue_records_no_password(make_postgres: Callable[[], str], workplace: Path) -> None:
    """What Optuna keeps of a run that failed is shown by optuna-dashboard."""
    import optuna

    from inversion.sweeps.queue.queue import Queue, Queued
    from inversion.sweeps.queue.storage import open_storage

    storage = open_storage(make_postgres())
    queue = Queue(storage, optuna.create_study(storage=storage, study_name="s"))
    queue.add([Queued("a", {}, "d", [])])
    entry = queue.claim()
    assert entry is not None
    queue.fail(entry.trial._trial_id, "error", "no connection to postgresql://me:hush@host/db")
    failed, = queue.entries()
    assert failed.failure == "error: no connection to postgresql://me:***@host/db"
