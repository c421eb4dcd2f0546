"""Memory: what does not fit is computed again with fewer images at a time; what was freed stays with the process."""

from __future__ import annotations

import ctypes
import functools
import gc
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from inversion.errors import OutOfMemoryError

Result = TypeVar("Result")

SAID_OTHERWISE = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
                  "DefaultCPUAllocator: can't allocate memory")

_logger = logging.getLogger(__name__)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out: libraries below PyTorch's allocator, and the CPU's, say so only in words."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in SAID_OTHERWISE)


def split_evenly(images: Tensor, size: int) -> Sequence[Tensor]:
    """The fewest parts of at most ``size`` images each, as even as can be: 5 images by 4 are 3 and 2, not 4 and 1."""
    return images.tensor_split(math.ceil(len(images) / size))


def warn_of_smaller_batches(size: int, smaller: int) -> None:
    """Says that ``smaller`` instead of ``size`` images are computed at a time, where that only takes longer."""
    _logger.warning("out of memory: %d images at a time do not fit, even without gradients. %d at a time are tried, "
                    "which gives the same results but for rounding.", size, smaller)


def until_it_fits(
    compute: Callable[[int], Result],
    size: int,
    subject: str,
    on_halved: Callable[[int, int], None] = warn_of_smaller_batches,
) -> Result:
    """What ``compute`` returns for ``size`` images at a time, or for half as many, rounded up, until they fit.

    ``on_halved`` is told the size that did not fit and the one that is tried next, before it is.

    Raises:
        OutOfMemoryError: not even one image fits; ``subject`` says in the message what an image is here.
    """
    while True:
        try:
            return compute(size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0].rstrip(".")
        # Only here, after the except block, is the traceback gone, which holds the failed attempt's activations.
        gc.collect()  # activations that are part of a cycle too
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        if size == 1:
            raise OutOfMemoryError(
                f"out of memory: not even one image fits at {subject}: {reason}. Try a smaller image_size, another "
                "decoder or decoder_options, a device with more memory, or fewer runs per GPU."
            )
        smaller = math.ceil(size / 2)
        on_halved(size, smaller)
        size = smaller


class BatchSize:
    """How many images are computed at a time where their number changes no result: halved for good if they don't fit.

    ``subject`` says in an error's message what an image is here.
    """

    def __init__(self, size: int, subject: str) -> None:
        self.size = size
        self.subject = subject

    def map(self, compute: Callable[[Tensor], Result], images: Tensor) -> Iterator[Result]:
        """What ``compute`` returns for one batch of ``images`` after the other, in their order.

        Raises:
            OutOfMemoryError: not even one image fits.
        """
        while len(images):
            yield self._of_first(compute, images)
            images = images[self.size:]

    def _of_first(self, compute: Callable[[Tensor], Result], images: Tensor) -> Result:
        size = min(self.size, len(images))
        return until_it_fits(lambda count: compute(images[:count]), size, self.subject, self._halve)

    def _halve(self, size: int, smaller: int) -> None:
        warn_of_smaller_batches(size, smaller)
        self.size = smaller


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
