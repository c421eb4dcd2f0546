"""The learning rate of every step, and the norm of the gradients that a step is made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from inversion.config.run_config import RunConfig
from inversion.errors import InterruptedRunError
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import LAST
from inversion.training.schedule import CosineSchedule
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer
from tests.training.same import assert_same

Make = Callable[..., Trainer]
COSINE = {"schedule": "cosine", "lr": 1e-3, "min_lr": 1e-5, "clip_norm": 0.01}


class Watch(Callback):
    """Keeps the rate and the norm of the gradients of every step; asks to stop after one of them."""

    def __init__(self, stop: StopRequest | None = None, last: int = 0) -> None:
        self.trainer: Trainer | None = None
        self.stop, self.last = stop, last
        self.rates: list[float] = []
        self.norms: list[float] = []
        self.epochs: dict[int, float] = {}

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        assert self.trainer
        self.rates.append(self.trainer.optimizer.param_groups[0]["lr"])
        gradients = [parameter.grad for parameter in self.trainer.model.trainable() if parameter.grad is not None]
        self.norms.append(torch.nn.utils.get_total_norm(gradients).item())
        if self.stop and len(self.rates) == self.last:
            self.stop.set("asked by a test")

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self.epochs[epoch] = metrics["lr"]


def watched(make: Make, name: str, stop: StopRequest | None = None, last: int = 0,
            **values: Any) -> tuple[Trainer, Watch]:
    watch = Watch(stop, last)
    watch.trainer = make(name, [watch], stop, **values)
    return watch.trainer, watch


def test_the_cosine_is_pytorchs(make_trainer: Make) -> None:
    trainer, watch = watched(make_trainer, "whole", **COSINE)
    trainer.fit()
    steps = len(watch.rates)
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    reference, rates = CosineAnnealingLR(optimizer, T_max=steps, eta_min=1e-5), []
    for _ in range(steps):
        rates.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    assert watch.rates == pytest.approx(rates, rel=1e-9)
    assert watch.epochs[1] == watch.rates[steps // 4 - 1]  # four epochs; the metric is the rate of an epoch's last step


def test_the_cosine_ends_at_the_lowest_rate() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    schedule = CosineSchedule(optimizer, RunConfig(), steps=10)
    schedule.before_step(0)
    assert optimizer.param_groups[0]["lr"] == 1e-4
    schedule.before_step(10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-6)


@pytest.mark.parametrize("last", [2, 3, 7])
def test_a_run_that_was_stopped_goes_on_with_the_rate_that_it_would_have_had(last: int, make_trainer: Make) -> None:
    whole, whole_watch = watched(make_trainer, "whole", **COSINE)
    whole.fit()
    stop = StopRequest()
    stopped, watch = watched(make_trainer, "stopped", stop, last, **COSINE)
    with pytest.raises(InterruptedRunError):
        stopped.fit()
    fresh, rest = watched(make_trainer, "stopped", **COSINE)
    fresh.resume(fresh.folder / LAST)
    fresh.fit()
    assert watch.rates + rest.rates == whole_watch.rates
    assert_same(fresh.model.learned_state(), whole.model.learned_state())


def test_a_longer_gradient_is_scaled_to_the_norm(make_trainer: Make) -> None:
    free, free_watch = watched(make_trainer, "free", epochs=1)
    free.fit()
    least = min(free_watch.norms)
    clipped, watch = watched(make_trainer, "clipped", epochs=1, clip_norm=least / 2)
    clipped.fit()
    assert watch.norms == pytest.approx([least / 2] * len(watch.norms), rel=1e-3)


def test_a_norm_that_no_gradient_reaches_changes_nothing(make_trainer: Make) -> None:
    free, watch = watched(make_trainer, "free", epochs=1)
    free.fit()
    clipped, _ = watched(make_trainer, "clipped", epochs=1, clip_norm=2 * max(watch.norms))
    clipped.fit()
    assert_same(clipped.model.learned_state(), free.model.learned_state())
