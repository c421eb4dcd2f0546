"""Retries of requests: how long the pauses are, and which failures are final."""

from __future__ import annotations

import datetime
from email.utils import format_datetime

import pytest

from inversion import retry
from inversion.retry import TransientError, pause_seconds, retrying


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr(retry, "sleep", waited.append)
    return waited


@pytest.mark.parametrize(("failures", "retry_after", "seconds"), [
    (1, None, 0.5), (2, None, 1.0), (3, None, 2.0), (30, None, retry.LONGEST_PAUSE_SECONDS),
    (1, "7", 7.0), (3, " 2 ", 2.0), (2, "0", 1.0), (2, "soon", 1.0), (1, "", 0.5), (1, "3600", None),
])
def test_a_pause_is_what_the_server_asks_for_or_doubles(
        failures: int, retry_after: str | None, seconds: float | None) -> None:
    assert pause_seconds(failures, retry_after) == seconds


def test_a_date_to_retry_after_is_understood() -> None:
    now = datetime.datetime.now(datetime.UTC)
    soon, late = (format_datetime(now + datetime.timedelta(seconds=seconds), usegmt=True) for seconds in (10, 600))
    assert 5 < (pause_seconds(1, soon) or 0) <= 10
    assert pause_seconds(1, late) is None


def test_a_transient_failure_is_retried(pauses: list[float]) -> None:
    answers = iter([TransientError("busy"), TransientError("busy", "3"), 17])

    def call() -> object:
        answer = next(answers)
        if isinstance(answer, TransientError):
            raise answer
        return answer

    assert retrying(call) == 17
    assert pauses == [0.5, 3.0]


@pytest.mark.parametrize(("retry_after", "message", "waited"), [
    (None, "busy 4 times in a row", [0.5, 1.0, 2.0]), ("900", "busy with Retry-After: 900", []),
])
def test_the_last_failure_is_raised(
        retry_after: str | None, message: str, waited: list[float], pauses: list[float]) -> None:
    def call() -> None:
        raise TransientError("busy", retry_after)

    with pytest.raises(TransientError) as error:
        retrying(call)
    assert str(error.value) == message
    assert pauses == waited


def test_other_errors_are_final(pauses: list[float]) -> None:
    with pytest.raises(ZeroDivisionError):
        retrying(lambda: 1 // 0)
    assert pauses == []
