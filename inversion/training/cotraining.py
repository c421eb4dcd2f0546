"""Several decoders on one encoder pass: runs that train side by side on the same batches.

Features and LPIPS's view of the targets depend on the batch alone. Runs that share encoder, photographs, seed and
protocol see the same batches, so that what the first of them computes serves the others, to the bit. Each run is
otherwise what it is alone, with its own optimiser, schedule, early stopping, checkpoints and tracking. They take turns
in one thread, as greenlets: a thread each would bring OpenMP threads of its own, more than there are cores together,
and OpenMP then sleeps at every barrier instead of waiting for it: a quarter of the time (docs/log.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeVar

from greenlet import getcurrent, greenlet
from torch import Tensor

from inversion.training.feature_cache import Kept

T = TypeVar("T")
Position = tuple[int, int]
"""An epoch and a step of it, from 1 and from 0."""


class Company(Protocol):
    """Whom a run trains with: where its turns come from, and what of a batch is there already."""

    kept: Kept
    """what is kept of the validation crops"""
    size: int
    """how many runs there are, at the beginning"""

    def turn(self, position: Position) -> None:
        """Returns when the run may do this step."""

    def get(self, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        """Of the present step, what the key names: somebody else's, or what ``make()`` gives."""

    def forget(self) -> None:
        """Drops what ``get`` has of the present step: memory ran out."""

    def spared_seconds(self) -> float:
        """What ``get`` has saved since this was last asked: what the run would have taken longer alone."""


class Alone:
    """Nobody else: every step at once, everything made anew."""

    size = 1

    def __init__(self) -> None:
        self.kept = Kept()

    def turn(self, position: Position) -> None:
        """At once."""

    def get(self, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        return make()

    def forget(self) -> None:
        """There is nothing."""

    def spared_seconds(self) -> float:
        return 0.0


class Together:
    """Runs that take turns, step by step; who is furthest behind goes first, so that all come to the same batch."""

    def __init__(self, size: int) -> None:
        self.kept = Kept()
        self.size = size
        self._at: Position | None = None
        self._made: dict[Hashable, tuple[list[Tensor], float]] = {}

    def do(self, jobs: Sequence[Callable[[Company], T]]) -> list[Future[T]]:
        """All jobs, each with a place in the company, until they have ended."""
        futures: list[Future[T]] = [Future() for _ in jobs]
        runs = [greenlet(partial(_settle, future, job, Member(self, scheduler=getcurrent())))
                for future, job in zip(futures, jobs, strict=True)]
        waiting: dict[int, Position] = dict.fromkeys(range(len(runs)), (0, 0))
        try:
            while waiting:
                number = min(waiting, key=lambda other: (waiting[other], other))
                self._go_to(waiting.pop(number))
                wanted = runs[number].switch()
                if not runs[number].dead:
                    waiting[number] = wanted
        except KeyboardInterrupt:  # between two turns: those that have begun are told where they are
            for run in runs:
                if run:
                    run.throw(KeyboardInterrupt)
            raise
        return futures

    def _go_to(self, position: Position) -> None:
        """What there is of another step is of no use at this one."""
        if position != self._at:
            self._at, self._made = position, {}

    def get(self, key: Hashable, make: Callable[[], list[Tensor]]) -> tuple[list[Tensor], float]:
        """What the key names, and the seconds that it was made in if it was there already."""
        if key in self._made:
            return self._made[key]
        began = time.perf_counter()
        found = make()
        self._made[key] = found, time.perf_counter() - began
        return found, 0.0

    def forget(self) -> None:
        """Drops what there is of the present step."""
        self._made = {}


class Member:
    """One run's place in the company."""

    def __init__(self, together: Together, scheduler: greenlet) -> None:
        self.kept, self.size = together.kept, together.size
        self._together = together
        self._scheduler = scheduler
        self._spared = 0.0

    def turn(self, position: Position) -> None:
        """Lets those that are further behind go first."""
        self._scheduler.switch(position)

    def get(self, key: Hashable, make: Callable[[], list[Tensor]]) -> list[Tensor]:
        found, seconds = self._together.get(key, make)
        self._spared += seconds
        return found

    def forget(self) -> None:
        self._together.forget()

    def spared_seconds(self) -> float:
        spared, self._spared = self._spared, 0.0
        return spared


def side_by_side(jobs: Sequence[Callable[[Company], T]]) -> list[Future[T]]:
    """Does all jobs, each with its place in the company, and returns how they ended: a value or an exception each.

    One alone has nobody to wait for.
    """
    if len(jobs) > 1:
        return Together(len(jobs)).do(jobs)
    futures: list[Future[T]] = [Future() for _ in jobs]
    for future, job in zip(futures, jobs, strict=True):
        _settle(future, job, Alone())
    return futures


def _settle(future: Future[T], job: Callable[[Company], T], company: Company) -> None:
    try:
        future.set_result(job(company))
    except BaseException as error:
        future.set_exception(error)
