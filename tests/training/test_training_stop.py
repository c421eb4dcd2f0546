"""Requests to stop, by signals."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from inversion.training.stop import StopRequest, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_reason_and_the_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with stop_on_signals() as stop:
        assert stop.reason is None
        os.kill(os.getpid(), number)
        assert stop.reason == f"{number.name} received"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_the_handlers_are_restored_after_an_error_too() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="training failed"), stop_on_signals():
        raise ValueError("training failed")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_second_ctrl_c_does_not_wait_and_a_second_sigterm_does() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.reason == "SIGTERM received"


def test_the_first_reason_stays() -> None:
    stop = StopRequest()
    stop.set("first")
    stop.set("second")
    assert stop.reason == "first"


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before, reasons = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with stop_on_signals() as stop:
            reasons.append(stop.reason)
            assert signal.getsignal(signal.SIGTERM) is before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reasons == [None]
