"""What this machine has: which device and precision ``auto`` stands for here. Importing this imports PyTorch."""

from __future__ import annotations

from typing import Literal

import torch

from inversion.cores import usable_cores
from inversion.errors import RequestError

BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which on a GPU has bf16 arithmetic: Ampere."""


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
