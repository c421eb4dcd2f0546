"""Which device and precision ``auto`` stands for, by what this machine has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inversion.config import device as module
from inversion.config.device import choose_device, choose_precision, cpu_computes_in_bf16, describe_devices
from inversion.config.resolve import resolve
from inversion.config.run_config import parse_config
from inversion.errors import RequestError


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(RequestError, match="device=cuda: PyTorch finds no CUDA device on this machine"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(RequestError, match="device=cuda:2: this machine has only 2 CUDA devices, cuda:0 to cuda:1"):
        choose_device("cuda:2")


def test_devices_are_described_with_their_default_precision(
        gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {"cuda:0": "Tesla T4", "cuda:1": "A100"}[device])
    gpus((7, 5), (8, 0))
    assert describe_devices() == ["cuda:0 Tesla T4 (compute capability 7.5, fp32)",
                                  "cuda:1 A100 (compute capability 8.0, bf16)"]
    gpus()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # a GPU whose driver does not work
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    monkeypatch.setattr(module, "cpu_computes_in_bf16", lambda: False)
    assert describe_devices() == ["CPU with 2 cores (no CUDA), fp32"]


@pytest.mark.parametrize(("name", "device", "has_bf16", "precision"), [
    ("auto", "cpu", False, "fp32"), ("auto", "cpu", True, "bf16"), ("auto", "cuda:1", False, "bf16"),
    ("fp32", "cuda", False, "fp32"), ("fp32", "cpu", True, "fp32"), ("bf16", "cpu", False, "bf16"),
    ("auto", "cuda", True, "fp32"), ("auto", "cuda:0", True, "fp32"), ("auto", "cuda:2", True, "bf16"),
    ("auto", "cuda:3", True, "fp32"), ("bf16", "cuda:0", True, "bf16"), ("fp32", "cuda:1", True, "fp32"),
])
def test_precision_is_bf16_where_the_device_computes_in_it_unless_asked_otherwise(
        name: str, device: str, has_bf16: bool, precision: str, monkeypatch: pytest.MonkeyPatch,
        gpus: Callable[..., None]) -> None:
    gpus((7, 5), (8, 0), (12, 0), (6, 1))
    monkeypatch.setattr(module, "cpu_computes_in_bf16", lambda: has_bf16)
    assert choose_precision(name, device) == precision


def test_a_run_takes_the_precision_of_the_gpu_that_was_chosen(
        gpus: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_DATA", str(tmp_path))
    gpus((7, 0), (9, 0))
    request = {"data": "sample", "weights": "random", "lpips_weights": "off"}
    planned = [resolve(parse_config(request | {"device": device})).config for device in ("auto", "cuda:0", "cuda:1")]
    assert [(config.device, config.precision) for config in planned] == [
        ("cuda", "fp32"), ("cuda:0", "fp32"), ("cuda:1", "bf16")]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux lists what a CPU can do")
def test_a_cpu_computes_in_bf16_if_linux_says_so() -> None:
    assert cpu_computes_in_bf16() == ("avx512_bf16" in Path("/proc/cpuinfo").read_text())
