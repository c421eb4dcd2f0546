"""What a model costs, and on what it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from inversion.models.encoders.build import Encoder
from inversion.models.model import build_model
from inversion.training.measure import PeakMemory, gflops_per_image

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be restarted on Linux only")
def test_peak_memory_sees_a_large_allocation_and_a_later_object_starts_anew() -> None:
    peak = PeakMemory(CPU)
    if not peak.was_reset:
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
    assert not peak.was_reset
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
