"""Co-training: several decoders on one encoder pass.

The features and LPIPS's features of the target depend on the batch alone. Runs that share encoder, photographs, seed
and protocol see the same batches, so what the first of them computes serves the others, to the bit. Each run keeps its
own optimizer, schedule, early stopping, checkpoints and tracking. A run is a generator that yields before every
training step; the runs take turns in one thread. With a thread each, OpenMP's threads would outnumber the cores and
sleep at every barrier: a quarter of the time (docs/log.md).
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import Future
from typing import TypeAlias, TypeVar

from torch import Tensor

from inversion.training.feature_cache import FeatureCache

T = TypeVar("T")
Position: TypeAlias = tuple[int, int]
"""An epoch and a step of it, from 1 and from 0."""

Steps: TypeAlias = Generator[Position, None, T]
"""A run that yields its position before every training step, and returns its result."""


class CoTrainingGroup:
    """What the runs of a group share: the tensors of the present step, and those of the validation images.

    A group of one shares nothing and stores nothing of a step.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.validation = FeatureCache()
        self._position: Position | None = None
        self._tensors: dict[Hashable, tuple[list[Tensor], float]] = {}

    def get(self, position: Position, key: Hashable, compute: Callable[[], list[Tensor]]
            ) -> tuple[list[Tensor], float]:
        """The tensors of a step under a key, computed by the first run that asks for them.

        Returns:
            The tensors, and the seconds that this run has saved by not computing them.
        """
        if self.size == 1:
            return compute(), 0.0
        if position != self._position:
            self._position, self._tensors = position, {}
        if key in self._tensors:
            return self._tensors[key]
        started = time.perf_counter()
        tensors = compute()
        self._tensors[key] = tensors, time.perf_counter() - started
        return tensors, 0.0

    def clear(self) -> None:
        """Drops the tensors of the present step: memory ran out."""
        self._tensors = {}


def run_alone(steps: Steps[T]) -> T:
    """Runs a generator to its end and returns its result; raises what it raises."""
    future, = _take_turns([steps])
    return future.result()


def train_together(runs: Sequence[Callable[[CoTrainingGroup], Steps[T]]]) -> list[Future[T]]:
    """Runs generators in turns until all have ended; one that fails does not stop the others.

    Returns:
        How each ended: its result or its exception.

    Raises:
        KeyboardInterrupt: between two steps, after it was raised in every run that has begun.
    """
    group = CoTrainingGroup(len(runs))
    return _take_turns([run(group) for run in runs])


def _take_turns(runs: Sequence[Steps[T]]) -> list[Future[T]]:
    """Whoever is furthest behind goes first, so that all come to the same batch at once."""
    futures: list[Future[T]] = [Future() for _ in runs]
    waiting: dict[int, Position] = dict.fromkeys(range(len(runs)), (0, 0))
    try:
        while waiting:
            number = min(waiting, key=lambda other: (waiting[other], other))
            position = _advance(runs[number], futures[number])
            if position is None:
                del waiting[number]
            else:
                waiting[number] = position
    except KeyboardInterrupt:
        for run in runs:
            if inspect.getgeneratorstate(run) == inspect.GEN_SUSPENDED:
                with contextlib.suppress(KeyboardInterrupt, StopIteration):
                    run.throw(KeyboardInterrupt())
        raise
    return futures


def _advance(run: Steps[T], future: Future[T]) -> Position | None:
    """One step of a run; None if it has ended, how is in the future."""
    try:
        return next(run)
    except StopIteration as end:
        future.set_result(end.value)
    except BaseException as error:
        if inspect.getgeneratorstate(run) != inspect.GEN_CLOSED:  # not the run's own: Ctrl-C arrived beside its step
            raise
        future.set_exception(error)
    return None
