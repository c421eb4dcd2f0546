"""Co-training: several decoders on one encoder pass.

The encoder's features and LPIPS's features of the targets depend on the batch alone. Runs with the same encoder,
images, seed and protocol see the same batches: the first of them computes these features, and the others reuse them,
with bit-identical results. Each run keeps its own optimizer, schedule, early stopping, checkpoints and tracking.

A run is a generator that yields before every training step, and the runs take turns in one thread. With one thread per
run, OpenMP's threads would outnumber the cores and wait at every barrier, a quarter of the time (docs/log.md).
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
"""An epoch, counted from 1, and a step in it, counted from 0."""

Steps: TypeAlias = Generator[Position, None, T]
"""A run that yields its position before every training step, and returns its result."""


class CoTrainingGroup:
    """What the runs of a group share: the features of the current step, and those of the validation images.

    A group of one run stores no features of a step.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.validation = FeatureCache()
        self._position: Position | None = None
        self._tensors: dict[Hashable, tuple[list[Tensor], float]] = {}

    def get(self, position: Position, key: Hashable, compute: Callable[[], list[Tensor]]
            ) -> tuple[list[Tensor], float]:
        """The tensors of a step, computed by the first run that needs them.

        Args:
            position: the step.
            key: identifies the tensors in the step.
            compute: computes them.

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
        """Frees the tensors of the current step, because memory ran out."""
        self._tensors = {}


def run_alone(steps: Steps[T]) -> T:
    """Runs a generator to its end; returns its result or raises its exception."""
    future, = _take_turns([steps])
    return future.result()


def train_together(runs: Sequence[Callable[[CoTrainingGroup], Steps[T]]]) -> list[Future[T]]:
    """Runs generators in turns until all have ended; the failure of one does not stop the others.

    Returns:
        The result or the exception of each.

    Raises:
        KeyboardInterrupt: it arrived between two steps; it was raised in every run that had begun.
    """
    group = CoTrainingGroup(len(runs))
    return _take_turns([run(group) for run in runs])


def _take_turns(runs: Sequence[Steps[T]]) -> list[Future[T]]:
    """The run that is furthest behind is next, so that all use a batch at the same time."""
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
    """Advances a run by one step; None if it has ended, with the outcome in the future."""
    try:
        return next(run)
    except StopIteration as end:
        future.set_result(end.value)
    except BaseException as error:
        if inspect.getgeneratorstate(run) != inspect.GEN_CLOSED:  # not the run's own: Ctrl-C arrived outside its step
            raise
        future.set_exception(error)
    return None
