"""Memory that was freed stays with the process, for the next tensor of that size."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER = -1


@functools.cache
def keep_freed_memory() -> bool:
    """Tells glibc to keep freed blocks for reuse; False where the C library is another one.

    It gives large blocks back to the system as soon as they are free, and the next step's activations, which need
    just as much, are faulted in again page by page: 10,000 faults a step, a fifth of the time (docs/log.md). One
    arena, because blocks of more than 32 MiB are never kept in those that threads get of their own; where there are
    threads already, only MALLOC_ARENA_MAX=1 in the environment is in time.

    The process then stays as large as it ever was, as CUDA's allocator does. Called once, before the first model.
    """
    mallopt = _from_libc("mallopt")
    settings = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER}
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings.items())


def give_back_freed_memory() -> None:
    """Returns to the system what is free now, so that a peak measured from here on is not that of an earlier run."""
    if (trim := _from_libc("malloc_trim")) is not None:
        trim(0)


def _from_libc(name: str) -> Any:
    """A function of glibc; None on macOS and musl, which do not have it, and on Windows."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
