"""The CPU cores that this process may use, and work on many items by as many threads."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TypeVar

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


def usable_cores() -> int:
    """Cores that this process may use: those of its affinity mask, but no more than its CPU quota, rounded up.

    A container's limit (``docker --cpus=2``, a CPU limit of Kubernetes, ``CPUQuota`` of systemd) is a quota of its
    cgroup, which leaves the affinity mask as it is. loky's and joblib's ``cpu_count`` read the quota of the topmost
    cgroup alone, and miss that of a service or a job on a machine without containers.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *cgroup_quotas()])))


def cgroup_quotas(process: Path = Path("/proc/self")) -> Iterator[float]:
    """The CPU quotas, in cores, of the process's cgroup and of all that it lies in (cgroups(7), versions 1 and 2)."""
    groups = {"cpu" if "cpu" in controllers.split(",") else controllers: PurePosixPath(path)
              for _, controllers, path in (line.split(":", 2) for line in _lines(process / "cgroup"))}
    for line in _lines(process / "mountinfo"):
        mount, _, kind = line.partition(" - ")
        system, _, options = kind.split(" ", 2)
        name = {"cgroup2": "", "cgroup": "cpu"}.get(system)
        if name not in groups or (name == "cpu" and "cpu" not in options.split(",")):
            continue
        root, point = mount.split()[3:5]
        yield from _quotas_from(groups[name], PurePosixPath(root), Path(point))


def _quotas_from(group: PurePosixPath, root: PurePosixPath, point: Path) -> Iterator[float]:
    """Quotas from a cgroup up to the topmost that is mounted: ``root`` of the hierarchy, at ``point``."""
    inside = group.is_relative_to(root) and ".." not in group.parts
    below = group.relative_to(root).parts if inside else ()  # a container may see its own cgroup as the topmost
    for depth in range(len(below), -1, -1):
        folder = point.joinpath(*below[:depth])
        quota = _lines(folder / "cpu.max") or [
            " ".join(_lines(folder / "cpu.cfs_quota_us") + _lines(folder / "cpu.cfs_period_us"))]
        match quota[0].split():
            case [allowed, period] if allowed.isdecimal():  # without a quota: "max", or -1 in version 1
                yield int(allowed) / int(period)


def _lines(file: Path) -> list[str]:
    """Empty where there is no such file: not on Linux, or not in this cgroup."""
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
