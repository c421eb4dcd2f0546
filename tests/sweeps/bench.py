"""The queue of a study, opened by several at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import text

from inversion.sweeps.queue.queue import Queue
from inversion.sweeps.queue.storage import open_storage

S = TypeVar("S")
T = TypeVar("T")


def do_at_once(count: int, prepare: Callable[[], S], work: Callable[[S], T]) -> list[T]:
    """Does ``work(prepare())`` in ``count`` processes, which begin the work together; returns what each returned.

    The processes are forked: they need not import MLflow and torch again, which takes seconds each. What is open here
    must be closed before, because connections to a database do not survive a fork.
    """
    context = multiprocessing.get_context("fork")
    barrier, outcomes = context.Barrier(count), context.Queue()

    def run(number: int) -> None:
        try:
            prepared = prepare()
            barrier.wait(timeout=60)
            outcomes.put((number, work(prepared), None))
        except BaseException:
            barrier.abort()
            outcomes.put((number, None, traceback.format_exc()))

    processes = [context.Process(target=run, args=(number,), daemon=True) for number in range(count)]
    for process in processes:
        process.start()
    results: dict[int, Any] = {}
    for _ in processes:
        number, result, error = outcomes.get(timeout=120)
        assert error is None, error
        results[number] = result
    for process in processes:
        process.join()
    return [results[number] for number in range(count)]


def kill_when(ready: Callable[[], object]) -> None:
    """Does something in a process of its own, which is then killed by SIGKILL."""

    def run() -> None:
        try:
            ready()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


class Bench:
    """The queue of one study, opened as often as a test likes: here, and in processes of their own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"study-{uuid.uuid4().hex[:8]}"
        self.storages: list[RDBStorage] = []

    def open(self) -> Queue:
        """The queue, with connections of its own."""
        storage = self.storage()
        return Queue(storage, optuna.create_study(storage=storage, study_name=self.name, direction="maximize",
                                                  load_if_exists=True))

    def storage(self) -> RDBStorage:
        """The storage that the queue lies in, with connections of its own."""
        with pytest.MonkeyPatch.context() as patch:  # most of the time goes into reading Optuna's migrations again
            patch.setattr("optuna.storages._rdb.storage._VersionManager.check_table_schema_compatibility",
                          lambda versions: None)
            self.storages.append(open_storage(self.url))
        return self.storages[-1]

    def at_once(self, count: int, work: Callable[[Queue], T]) -> list[T]:
        """What ``work(queue)`` returned in ``count`` processes that began it together.

        They queue slowly: whoever is not kept out gets in between what another one has read and what it writes.
        """
        def open_slow() -> Queue:
            queue = self.open()
            add = queue.study.add_trial

            def add_slowly(trial: FrozenTrial) -> None:
                time.sleep(0.01)
                add(trial)

            queue.study.add_trial = add_slowly  # type: ignore[method-assign]
            return queue

        self.close()
        return do_at_once(count, open_slow, work)

    def kill_after(self, work: Callable[[Queue], object]) -> None:
        """Does ``work(queue)`` in a process that is killed then, before it can tidy up."""
        self.close()
        kill_when(lambda: work(self.open()))

    def silence(self, seconds: int = 100) -> None:
        """Sets every heartbeat back, as if nobody had been heard of for so long."""
        storage = self.storage()
        back = (f"datetime(heartbeat, '-{seconds} seconds')" if self.url.startswith("sqlite")
                else f"heartbeat - interval '{seconds} seconds'")
        with storage.engine.begin() as connection:
            connection.execute(text(f"update trial_heartbeats set heartbeat = {back}"))

    def close(self) -> None:
        """Closes all connections; a queue opens its own again when it is used."""
        for storage in self.storages:
            storage.engine.dispose()
