"""The engine of a run: its device, precision and number of threads."""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from inversion.config.device import computes_in_bf16
from inversion.config.run_config import Protocol, RunConfig
from inversion.parallel import usable_cores
from inversion.training.memory import keep_freed_memory

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """Device, autocast precision and protocol of a run's computations."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    protocol: Protocol

    def send(self, stored: Tensor) -> Tensor:
        """Moves a batch to the device; to a GPU from pinned memory, without waiting."""
        if self.device.type == "cuda" and not stored.is_cuda:
            return stored.pin_memory().to(self.device, non_blocking=True)
        return stored.to(self.device)

    def autocast(self) -> AbstractContextManager[None]:
        """Autocasts to bf16 with that precision; weights, losses and scores stay in fp32 or better."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def use_threads(threads: int) -> int:
    """Sets the number of PyTorch's CPU threads (0: one per core this process may use) and returns it.

    It determines the order of additions, so only results of the same number of threads are bit-identical.
    """
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def make_engine(config: RunConfig) -> Engine:
    """The engine of a resolved configuration. Call it before anything is computed: it sets the number of threads.

    Settings that make a run slower than necessary are logged once.
    """
    torch.backends.cudnn.benchmark = False  # may choose other algorithms in each run
    keep_freed_memory()
    if config.threads:
        use_threads(config.threads)
        _warn_about_threads(config.threads, usable_cores())
    precision: Literal["fp32", "bf16"] = "bf16" if config.precision == "bf16" else "fp32"
    if precision == "bf16" and not computes_in_bf16(config.device):
        _warn_about_bf16(config.device)
    return Engine(torch.device(config.device), precision, config.protocol)


@functools.cache
def _warn_about_threads(threads: int, cores: int) -> None:
    """Logs that there are more threads than cores. A resumed run keeps its number: the last digits depend on it."""
    if threads > cores:
        _logger.warning("threads=%d, but this process may use %d %s: threads=%d would be faster, with other last "
                        "digits", threads, cores, "core" if cores == 1 else "cores", cores)


@functools.cache
def _warn_about_bf16(device: str) -> None:
    _logger.warning("precision=bf16, but %s does not compute in bf16 and emulates it: fp32 would be faster", device)
