"""A stop ends the wait for a PostgreSQL server that accepts a statement and does not answer."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from inversion.tracking import silence
from inversion.tracking.store_errors import is_lost
from inversion.training.stop import is_requested, stop_on_signals

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
