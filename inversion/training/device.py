"""Where and how a run computes: device, precision, threads."""

from __future__ import annotations

import functools
import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from inversion.config.run_config import Protocol, RunConfig
from inversion.cores import usable_cores
from inversion.errors import RequestError
from inversion.training.allocator import keep_freed_memory

BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which on a GPU has bf16 arithmetic: Ampere."""

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


def choose_device(name: str) -> str:
    """``auto`` to ``cuda`` or ``cpu``; another name is checked against this machine.

    Raises:
        RequestError: CUDA is asked for and there is none, or not that many.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise RequestError(f"device: {name} is asked for, but PyTorch sees no CUDA device here. Use cpu or auto.")
        if int(name.partition(":")[2] or 0) >= count:
            raise RequestError(f"device: {name} is asked for, but there are only {count}: cuda:0 to cuda:{count - 1}.")
    return name


def choose_precision(name: str, device: str) -> Literal["fp32", "bf16"]:
    """``auto`` is bf16 autocast where the device computes in it, else fp32.

    What that does to test scores stands in docs/performance.md.
    """
    if name == "auto":
        return "bf16" if computes_in_bf16(device) else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def computes_in_bf16(device: str) -> bool:
    """Whether a device has bf16 arithmetic: others only imitate it, slower than fp32.

    PyTorch's own ``is_bf16_supported`` asks the current GPU, whichever is chosen.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
    return cpu_computes_in_bf16()


def cpu_computes_in_bf16() -> bool:
    """Whether this CPU has AVX512-BF16."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())


def describe_devices() -> list[str]:
    """The devices that ``device=auto`` may take here, each with the precision that is then its default."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    named = [f"{gpu} {torch.cuda.get_device_name(gpu)} (compute capability "
             f"{'.'.join(map(str, torch.cuda.get_device_capability(gpu)))}, {choose_precision('auto', gpu)})"
             for gpu in gpus]
    cores = usable_cores()
    return named or [f"CPU with {cores} core{'s' if cores > 1 else ''} (no CUDA), {choose_precision('auto', 'cpu')}"]


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
