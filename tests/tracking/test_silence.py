"""A stop ends the wait for a server that accepts what it is sent and does not answer."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from inversion.errors import InterruptedRunError
from inversion.tracking import silence
from inversion.tracking.connection import connect
from inversion.tracking.retry import with_retries
from inversion.tracking.store_errors import is_lost
from inversion.training.stop import StopRequest, is_requested, stop_on_signals

NO_ANSWER = text("select pg_sleep(600)")


def test_a_stop_ends_a_statement_without_an_answer_as_a_lost_connection(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "STOP_GRACE_SECONDS", 0.2)
    silence.end_silent_waits()
    engine = create_engine(postgres)
    with engine.connect() as database, stop_on_signals() as stop:
        assert database.scalar(text("select pg_sleep(0.4) is not null")) is True  # without a stop, any time
        stop.set("SIGTERM received")
        assert database.scalar(text("select 1")) == 1  # an answer is still taken
        with pytest.raises(OperationalError, match="does not answer") as caught:
            database.execute(NO_ANSWER)
        assert database.invalidated
    assert is_lost(caught.value)
    assert not is_requested()
    with engine.connect() as database:
        assert database.scalar(text("select 1")) == 1
    engine.dispose()


def test_a_stop_ends_a_request_without_an_answer(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "STOP_GRACE_SECONDS", 0.2)
    stop = StopRequest()
    client = with_retries(connect(stand_in.address), stop).client
    stand_in.hang()
    threading.Timer(0.5, stand_in.heal).start()
    assert client.search_experiments()  # without a stop, any time
    stop.set("SIGTERM received")
    assert client.search_experiments()  # an answer is still taken
    stand_in.hang()
    with pytest.raises(InterruptedRunError, match="SIGTERM received, while the tracking server accepts requests and "
                                                  "does not answer"):
        client.search_experiments()


def test_a_transfer_of_files_may_take_longer(
        stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "STOP_GRACE_SECONDS", 0.0)
    stop = StopRequest()
    connection = connect(stand_in.address)
    client = with_retries(connection, stop).client
    run_id = client.create_run(connection.experiment_id).info.run_id
    (tmp_path / "last.pt").write_bytes(b"a checkpoint")
    stop.set("SIGTERM received")
    stand_in.hang()
    threading.Timer(1.0, stand_in.heal).start()
    client.log_artifact(run_id, str(tmp_path / "last.pt"))
    assert [file.path for file in client.list_artifacts(run_id)] == ["last.pt"]


def test_an_error_of_a_request_stays_what_it_is(stand_in: Any) -> None:
    client = with_retries(connect(stand_in.address), StopRequest()).client
    with pytest.raises(Exception, match="No Experiment with id=77 exists"):
        client.get_experiment("77")
