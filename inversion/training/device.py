"""The engine of a run: its device, precision and threads in use."""

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
from inversion.cores import usable_cores
from inversion.training.allocator import keep_freed_memory

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """Device, autocast precision and protocol of a run's computations."""

    device: torch.device
    precision: Literal["fp32", "bf16"]
    protocol: Protocol

    def send(self, stored: Tensor) -> Tensor:
        """A batch to the device, without waiting where it is a GPU: from pinned memory, unless it is there already."""
        if self.device.type == "cuda" and not stored.is_cuda:
            return stored.pin_memory().to(self.device, non_blocking=True)
        return stored.to(self.device)

    def autocast(self) -> AbstractContextManager[None]:
        """bf16 where the precision says so; weights, losses and scores stay fp32 or better."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def use_threads(threads: int) -> int:
    """Sets PyTorch's CPU threads (0: one per core this process may use) and returns their number.

    The number decides the order of additions, so results are the same to the bit only for the same number.
    """
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def make_engine(config: RunConfig) -> Engine:
    """The engine of a resolved configuration, to be made before anything is computed: the number of threads is set.

    What makes a run slower than need be, but does not change its numbers, is logged once.
    """
    torch.backends.cudnn.benchmark = False  # its choice of algorithm may differ from run to run
    keep_freed_memory()
    if config.threads:
        use_threads(config.threads)
        _warn_of_threads(config.threads, usable_cores())
    precision: Literal["fp32", "bf16"] = "bf16" if config.precision == "bf16" else "fp32"
    if precision == "bf16" and not computes_in_bf16(config.device):
        _warn_of_bf16(config.device)
    return Engine(torch.device(config.device), precision, config.protocol)


@functools.cache
def _warn_of_threads(threads: int, cores: int) -> None:
    """A run that is resumed or scored again keeps its number, which the last bits depend on, also on fewer cores."""
    if threads > cores:
        _logger.warning("threads=%d, but this process may use %d %s: threads=%d would be faster, with other last "
                        "digits", threads, cores, "core" if cores == 1 else "cores", cores)


@functools.cache
def _warn_of_bf16(device: str) -> None:
    _logger.warning("precision=bf16, but %s does not compute in bf16 and imitates it: fp32 would be faster", device)
