"""Memory: retrying with fewer images when memory runs out, and keeping freed memory in the process."""

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

OTHER_MESSAGES = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED",
                  "DefaultCPUAllocator: can't allocate memory")
"""Messages of out-of-memory errors that have no class of their own: of cuBLAS, cuDNN and the CPU's allocator."""

_logger = logging.getLogger(__name__)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OTHER_MESSAGES)


def split_evenly(images: Tensor, size: int) -> Sequence[Tensor]:
    """The fewest parts of at most ``size`` images, of nearly equal sizes: 5 images by 4 are 3 and 2, not 4 and 1."""
    return images.tensor_split(math.ceil(len(images) / size))


def warn_about_smaller_batches(size: int, smaller: int) -> None:
    """Logs that ``smaller`` instead of ``size`` images are computed at a time, where this does not change results."""
    _logger.warning("out of memory: %d images at a time do not fit, even without gradients. Retrying with %d at a "
                    "time, which gives the same results except for rounding.", size, smaller)


def until_it_fits(
    compute: Callable[[int], Result],
    size: int,
    subject: str,
    on_halved: Callable[[int, int], None] = warn_about_smaller_batches,
) -> Result:
    """Calls ``compute`` with a number of images, and again with half as many (rounded up) until they fit into memory.

    Args:
        compute: the computation; its argument is how many images to compute at a time.
        size: the first number of images.
        subject: what the images are, for the error message.
        on_halved: called before each retry, with the size that did not fit and the next one.

    Raises:
        OutOfMemoryError: not even one image fits.
    """
    while True:
        try:
            return compute(size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0].rstrip(".")
        # Not in the except block: there, the traceback still holds the activations of the failed attempt.
        gc.collect()  # frees activations in reference cycles
        torch.cuda.empty_cache()  # does nothing if CUDA is not in use
        if size == 1:
            raise OutOfMemoryError(
                f"out of memory: not even one image fits at {subject}: {reason}. Try a smaller image_size, another "
                "decoder or decoder_options, a device with more memory, or fewer runs per GPU."
            )
        smaller = math.ceil(size / 2)
        on_halved(size, smaller)
        size = smaller


class BatchSize:
    """How many images to compute at a time where this does not change results; halved permanently if they do not fit.

    Args:
        size: the first number of images.
        subject: what the images are, for the error message.
    """

    def __init__(self, size: int, subject: str) -> None:
        self.size = size
        self.subject = subject

    def map(self, compute: Callable[[Tensor], Result], images: Tensor) -> Iterator[Result]:
        """The results of ``compute`` for consecutive batches of ``images``.

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
        warn_about_smaller_batches(size, smaller)
        self.size = smaller


# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER = -1


@functools.cache
def keep_freed_memory() -> bool:
    """Configures glibc to keep freed blocks for reuse; returns False if the C library is another one.

    By default glibc returns large blocks to the system as soon as they are freed. The activations of the next step,
    which need as much, then cause 10,000 page faults per step, a fifth of the time (docs/log.md). One arena is used,
    because arenas of threads never keep blocks of more than 32 MiB; if there are threads already, only
    MALLOC_ARENA_MAX=1 in the environment has an effect.

    As with CUDA's allocator, the process never shrinks. Call it before the first model is built.
    """
    mallopt = _from_libc("mallopt")
    settings = {M_ARENA_MAX: 1, M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER}
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings.items())


def release_freed_memory() -> None:
    """Returns freed memory to the system, so that a peak measured from now on is not that of an earlier run."""
    if (trim := _from_libc("malloc_trim")) is not None:
        trim(0)


def _from_libc(name: str) -> Any:
    """A function of glibc; None if the C library does not have it, as on macOS, Windows and with musl."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
