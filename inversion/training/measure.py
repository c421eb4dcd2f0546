"""Measuring what a model costs: peak memory, operations, time."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inversion.training.memory import release_freed_memory

MEGABYTE = 1024**2


class PeakMemory:
    """Peak memory since its creation, in MiB: of CUDA's allocator, or of the process's resident set on a CPU.

    Linux keeps the resident peak for the life of a process; writing 5 to ``clear_refs`` resets it (proc(5)). Where
    that is not possible, the current resident set is returned, which is a lower bound.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.was_reset = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        release_freed_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self.was_reset = True
        except OSError:
            self.was_reset = False

    def read_mb(self) -> float:
        """The peak so far, in MiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / MEGABYTE
        if self.was_reset:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        resident: int = psutil.Process().memory_info().rss
        return resident / MEGABYTE


def gflops_per_image(model: nn.Module, image: Tensor) -> float:
    """10⁹ floating-point operations of the whole model for one image ``(1, 3, S, S)``; a multiply-add counts as two."""
    with torch.no_grad(), flop_counter() as counter:
        model(image)
    total: int = counter.get_total_flops()
    return total / 1e9


def flop_counter() -> FlopCounterMode:
    """PyTorch's counter, extended by the attention kernels of the CPU, which it does not count."""
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    return FlopCounterMode(display=False, custom_mapping={
        attention: _attention_flops, backward: _attention_backward_flops})


def _attention_flops(query: Sequence[int], key: Sequence[int], *_: object, **__: object) -> int:
    """Queries times keys, then the weights times values: shapes are ``(B, heads, tokens, channels)``."""
    return 2 * 2 * math.prod(query) * key[-2]


def _attention_backward_flops(_: object, query: Sequence[int], key: Sequence[int], *__: object, **___: object) -> int:
    """The weights once more, and the gradients of weights, queries, keys and values: five products."""
    return 5 * 2 * math.prod(query) * key[-2]


def synchronised_time(device: torch.device) -> float:
    """Seconds on a monotonic clock, after all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
