"""The engine: device, precision and threads of a run, and what slows it down."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from inversion.config import device as config_device
from inversion.config.run_config import RunConfig
from inversion.parallel import usable_cores
from inversion.training import device as module
from inversion.training.device import make_engine, use_threads

CPU = torch.device("cpu")


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
        for warning in (module._warn_about_threads, module._warn_about_bf16):
            warning.cache_clear()
        make_engine(config)
        make_engine(config)
        return caplog.messages

    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    monkeypatch.setattr(config_device, "cpu_computes_in_bf16", lambda: False)
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
        "precision=bf16, but cuda:1 does not compute in bf16 and emulates it: fp32 would be faster"]
    assert "bf16, but cpu does not" in slow(precision="bf16")[-1]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_engine_computes_in_its_precision(precision: str) -> None:
    engine = make_engine(RunConfig.model_validate({"device": "cpu", "precision": precision, "protocol": "published"}))
    assert (engine.device, engine.protocol) == (CPU, "published")
    with engine.autocast():
        product = torch.rand(2, 2) @ torch.rand(2, 2)
    assert product.dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
