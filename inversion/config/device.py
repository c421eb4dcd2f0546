"""Resolution of ``device=auto`` and ``precision=auto`` on this machine. Importing this imports PyTorch."""

from __future__ import annotations

from typing import Literal

import torch

from inversion.errors import RequestError
from inversion.parallel import usable_cores

BF16_CAPABILITY = (8, 0)
"""Lowest CUDA compute capability with bf16 arithmetic (Ampere)."""


def choose_device(name: str) -> str:
    """Resolves ``auto`` to ``cuda`` or ``cpu``, and checks that other devices exist.

    Raises:
        RequestError: the CUDA device does not exist on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise RequestError(f"device={name}: PyTorch finds no CUDA device on this machine. Use cpu or auto.")
        if int(name.partition(":")[2] or 0) >= count:
            raise RequestError(f"device={name}: this machine has only {count} CUDA devices, cuda:0 to "
                               f"cuda:{count - 1}.")
    return name


def choose_precision(name: str, device: str) -> Literal["fp32", "bf16"]:
    """Resolves ``auto`` to bf16 autocast if the device has bf16 arithmetic, else fp32.

    docs/performance.md compares the test scores of both.
    """
    if name == "auto":
        return "bf16" if computes_in_bf16(device) else "fp32"
    return "bf16" if name == "bf16" else "fp32"


def computes_in_bf16(device: str) -> bool:
    """Whether a device has bf16 arithmetic; without it, bf16 is emulated and slower than fp32.

    PyTorch's ``is_bf16_supported`` checks the current GPU, which may be another one.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
    return cpu_computes_in_bf16()


def cpu_computes_in_bf16() -> bool:
    """Whether this CPU has AVX512-BF16."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())


def describe_devices() -> list[str]:
    """The devices of this machine from which ``device=auto`` chooses, each with its default precision."""
    gpus = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    named = [f"{gpu} {torch.cuda.get_device_name(gpu)} (compute capability "
             f"{'.'.join(map(str, torch.cuda.get_device_capability(gpu)))}, {choose_precision('auto', gpu)})"
             for gpu in gpus]
    cores = usable_cores()
    return named or [f"CPU with {cores} core{'s' if cores > 1 else ''} (no CUDA), {choose_precision('auto', 'cpu')}"]
