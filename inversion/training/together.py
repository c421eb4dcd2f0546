"""Several decoders on one encoder pass: runs that train side by side on the same batches.

Features and LPIPS's view of the targets depend on the batch alone. Runs that share encoder, photographs, seed and
protocol see the same batches, so that what the first of them computes serves the others, to the bit. Each run is
otherwise what it is alone, with its own optimiser, schedule, early stopping, checkpoints and tracking, in a thread of
its own. Only one thread computes at a time: two would share the same cores or the same GPU.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Protocol, TypeVar

from torch import Tensor

from inversion.training.allocator import keep_freed_memory
from inversion.training.kept import Kept

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

    def __init__(self, runs: int) -> None:
        self.kept = Kept()
        self._changed = threading.Condition()
        self._waiting: dict[int, Position] = {}
        self._working: int | None = None
        self.size = self._expected = runs
        self._at: Position | None = None
        self._made: dict[Hashable, tuple[list[Tensor], float]] = {}

    def members(self) -> list[Member]:
        """One for each run."""
        return [Member(self, number) for number in range(self.size)]

    def wait(self, number: int, position: Position) -> None:
        """Gives the turn up and returns when it has come again, to do this step."""
        with self._changed:
            if self._working == number:
                self._working = None
            self._waiting[number] = position
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_next(number))
            del self._waiting[number]
            self._working = number
            if position != self._at:
                self._at, self._made = position, {}

    def leave(self, number: int) -> None:
        """A run that has ended, however it did."""
        with self._changed:
            if self._working == number:
                self._working = None
            self._expected -= 1
            if not self._expected:
                self._made = {}
            self._changed.notify_all()

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

    def _is_next(self, number: int) -> bool:
        """Whether all the others wait too, and none of them is further behind."""
        everyone_waits = self._working is None and len(self._waiting) == self._expected
        return everyone_waits and min(self._waiting, key=lambda other: (self._waiting[other], other)) == number


class Member:
    """One run's place in the company; a context that holds the turn from its beginning to its end."""

    def __init__(self, together: Together, number: int) -> None:
        self.kept, self.size = together.kept, together.size
        self._together = together
        self._number = number
        self._spared = 0.0

    def __enter__(self) -> Member:
        self.turn((0, 0))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._together.leave(self._number)

    def turn(self, position: Position) -> None:
        """Lets those that are further behind go first."""
        self._together.wait(self._number, position)

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

    One alone is done in this thread, with nobody.
    """
    if len(jobs) == 1:
        return [_settled(jobs[0])]
    keep_freed_memory()  # before there are threads, which would get arenas of their own
    members = Together(len(jobs)).members()

    def do(job: Callable[[Company], T], member: Member) -> T:
        with member:
            return job(member)

    with ThreadPoolExecutor(len(jobs), thread_name_prefix="run") as pool:
        return [pool.submit(do, job, member) for job, member in zip(jobs, members, strict=True)]


def _settled(job: Callable[[Company], T]) -> Future[T]:
    done: Future[T] = Future()
    try:
        done.set_result(job(Alone()))
    except BaseException as error:
        done.set_exception(error)
    return done
