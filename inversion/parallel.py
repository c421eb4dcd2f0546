"""Work on many files at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from inversion.cores import usable_cores

T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """The function's results in the order of the items, made by as many threads as this process may use cores.

    Threads are enough: Pillow decodes and ``hashlib`` hashes without Python's lock (measured in docs/log.md). They work
    only a few items ahead, so that a slow reader does not fill the memory and an interruption does not wait for all
    the rest.
    """
    workers = workers or usable_cores()
    pool = ThreadPoolExecutor(workers)
    try:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
