"""What a model costs, and on what it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from inversion.config.resolve import resolve
from inversion.config.run_config import RunConfig, parse_config
from inversion.cores import usable_cores
from inversion.errors import RequestError
from inversion.models.encoders.build import Encoder
from inversion.models.model import build_model
from inversion.training import device as device_module
from inversion.training.device import (
    choose_device,
    choose_precision,
    cpu_computes_in_bf16,
    describe_devices,
    make_engine,
    use_threads,
)
from inversion.training.measure import PeakMemory, gflops_per_image

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be restarted on Linux only")
def test_peak_memory_sees_a_large_allocation_and_a_later_object_starts_anew() -> None:
    peak = PeakMemory(CPU)
    if not peak.counter_restarted:
        pytest.skip("this system does not let a process restart its peak")
    before = peak.read_mb()
    large = torch.ones(200 * 2**20 // 4)
    del large
    after = peak.read_mb()
    assert after - before > 150
    assert PeakMemory(CPU).read_mb() < after - 100


def test_where_the_peak_cannot_be_restarted_the_present_size_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", refuse)
    peak = PeakMemory(CPU)
    assert not peak.counter_restarted
    before = peak.read_mb()
    large = torch.ones(100 * 2**20 // 4)
    assert peak.read_mb() - before > 80
    assert large.all()


def test_a_convolution_costs_two_operations_a_multiply_add() -> None:
    convolution = nn.Conv2d(3, 8, kernel_size=5, stride=2, padding=2)
    assert gflops_per_image(convolution, torch.zeros(1, 3, 32, 32)) == pytest.approx(2 * 16 * 16 * 8 * 3 * 25 / 1e9)


def test_attention_is_counted_on_the_cpu_too() -> None:
    class Attention(nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(tokens, tokens[:, :, :10], tokens[:, :, :10])

    assert gflops_per_image(Attention(), torch.rand(1, 4, 64, 16)) == pytest.approx(2 * 2 * 4 * 64 * 10 * 16 / 1e9)


def test_a_whole_model_costs_what_encoder_and_decoder_cost(frozen: Callable[..., Encoder]) -> None:
    model = build_model([frozen("vgg16:block1", 64)], "transposed_conv", {}, None, 64, seed=0).eval()
    encoder = 64 * 64 * 9 * (3 * 64 + 64 * 64)
    decoder = 32 * 32 * 16 * 64 * 32 + 64 * 64 * 9 * 32 * 3
    assert gflops_per_image(model, torch.zeros(1, 3, 64, 64)) == pytest.approx(2 * (encoder + decoder) / 1e9)


def test_counting_leaves_the_model_as_it_is(frozen: Callable[..., Encoder]) -> None:
    model = build_model([frozen("vgg16:block1", 64)], "wavelet", {}, None, 64, seed=0).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gflops_per_image(model, torch.zeros(1, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``gpus((7, 5), (8, 0))``: GPUs of these compute capabilities are there, the first one being the current."""
    def make(*capabilities: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
        monkeypatch.setattr(torch.cuda, "get_device_capability",
                            lambda device: capabilities[torch.device(device).index or 0])

    return make


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(RequestError, match="device: cuda is asked for, but PyTorch sees no CUDA device here"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(RequestError, match="device: cuda:2 is asked for, but there are only 2: cuda:0 to cuda:1"):
        choose_device("cuda:2")


def test_devices_are_described_with_their_default_precision(
        gpus: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: {"cuda:0": "Tesla T4", "cuda:1": "A100"}[device])
    gpus((7, 5), (8, 0))
    assert describe_devices() == ["cuda:0 Tesla T4 (compute capability 7.5, fp32)",
                                  "cuda:1 A100 (compute capability 8.0, bf16)"]
    gpus()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # a GPU whose driver does not work
    monkeypatch.setattr(device_module, "usable_cores", lambda: 2)
    monkeypatch.setattr(device_module, "cpu_computes_in_bf16", lambda: False)
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
    monkeypatch.setattr(device_module, "cpu_computes_in_bf16", lambda: has_bf16)
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


def test_threads_are_set_as_asked_and_by_default_one_a_usable_core() -> None:
    assert use_threads(1) == torch.get_num_threads() == 1
    assert use_threads(0) == torch.get_num_threads() == usable_cores() >= 1


def test_an_engine_computes_with_the_threads_of_its_configuration() -> None:
    for threads in (3, 2):
        make_engine(RunConfig(device="cpu", precision="fp32", threads=threads))
        assert torch.get_num_threads() == threads


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., list[str]]:
    """``slow(threads=8)``: what is logged of two engines of this configuration, on 2 cores without bf16."""
    def make(**values: object) -> list[str]:
        config = RunConfig.model_validate({"device": "cpu", "precision": "fp32", "threads": 1} | values)
        for warning in (device_module._warn_of_threads, device_module._warn_of_bf16):
            warning.cache_clear()
        make_engine(config)
        make_engine(config)
        return caplog.messages

    monkeypatch.setattr(device_module, "usable_cores", lambda: 2)
    monkeypatch.setattr(device_module, "cpu_computes_in_bf16", lambda: False)
    return make


def test_more_threads_than_cores_are_used_and_warned_of_once(slow: Callable[..., list[str]]) -> None:
    assert slow(threads=2) == []
    assert slow(threads=3) == ["threads=3, but this process may use 2 cores: threads=2 would be faster, with other "
                               "last digits"]
    assert torch.get_num_threads() == 3


def test_bf16_that_the_device_only_imitates_is_used_and_warned_of_once(
        slow: Callable[..., list[str]], gpus: Callable[..., None]) -> None:
    gpus((8, 6), (7, 0))
    assert slow(device="cuda", precision="bf16") == slow(device="cuda:1", precision="fp32") == []
    assert slow(device="cuda:1", precision="bf16") == [
        "precision=bf16, but cuda:1 does not compute in bf16 and imitates it: fp32 would be faster"]
    assert "bf16, but cpu does not" in slow(precision="bf16")[-1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_engine_computes_in_its_precision(precision: str) -> None:
    engine = make_engine(RunConfig.model_validate({"device": "cpu", "precision": precision, "protocol": "published"}))
    assert (engine.device, engine.protocol) == (CPU, "published")
    with engine.autocast():
        product = torch.rand(2, 2) @ torch.rand(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
