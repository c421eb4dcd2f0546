"""Several decoders on one encoder pass: the same numbers as alone, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion.errors import InterruptedRunError, NonFiniteError
from inversion.training.callbacks import Listener
from inversion.training.checkpoint import BEST, LAST, load_checkpoint
from inversion.training.cotraining import Alone, Company, Together, side_by_side
from inversion.training.state import Progress
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer

Make = Callable[..., Trainer]
DECODERS = ("transposed_conv", "attention", "wavelet", "frequency_aware")
OF_THE_CLOCK = {"seconds_in_epoch", "train_seconds", "validation_seconds", "peak_memory_mb", "last_metrics"}


def job(make: Make, folder: str, passes: list[int] | None = None, resume: bool = False,
        **values: Any) -> Callable[[Company], Progress]:
    """A run in company; ``passes`` is filled with the sizes of the batches that it encodes while it trains."""

    def fit(company: Company) -> Progress:
        trainer = make(folder, **values)
        trainer.company = company
        encode = trainer.model.encode

        def counted(images: Tensor) -> list[Tensor]:
            if passes is not None and torch.is_grad_enabled():  # in training alone
                passes.append(len(images))
            maps: list[Tensor] = encode(images)
            return maps

        trainer.model.encode = counted
        if resume:
            trainer.resume(trainer.folder / LAST)
        return trainer.fit()

    return fit


def outcome(make: Make, folder: str) -> dict[str, Any]:
    """All that a run has left but what a clock says, as plain lists where there are tensors."""
    folder_path = make(folder).folder

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.tolist()
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in OF_THE_CLOCK}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return {name: plain({key: value for key, value in load_checkpoint(folder_path / name).items() if key != "metrics"})
            for name in (LAST, BEST)}


def test_four_decoders_side_by_side_come_to_the_bit_to_what_each_comes_to_alone(make_trainer: Make) -> None:
    alone: list[int] = []
    for decoder in DECODERS:
        job(make_trainer, f"alone {decoder}", alone, decoder=decoder)(Alone())
    together: list[int] = []
    futures = side_by_side([job(make_trainer, f"together {decoder}", together, decoder=decoder)
                            for decoder in DECODERS])
    assert [future.result().epoch for future in futures] == [4] * 4
    assert len(alone) == 4 * len(together)  # every batch was encoded once instead of four times
    for decoder in DECODERS:
        assert outcome(make_trainer, f"together {decoder}") == outcome(make_trainer, f"alone {decoder}")


def test_one_that_fails_or_is_stopped_or_ends_early_leaves_the_others_as_they_are(make_trainer: Make) -> None:
    class StopAfter(Listener):
        def __init__(self, stop: StopRequest) -> None:
            self.stop = stop

        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            if (epoch, step) == (2, 1):
                self.stop.set("asked by a test")

    stop = StopRequest()
    job(make_trainer, "alone", decoder="wavelet")(Alone())
    failed, stopped, short, whole = side_by_side([
        job(make_trainer, "failed", decoder="wavelet", lpips=False, batch_size=2, lr=1e30),
        job(make_trainer, "stopped", decoder="transposed_conv", listeners=[StopAfter(stop)], stop=stop),
        job(make_trainer, "short", decoder="frequency_aware", epochs=1),
        job(make_trainer, "whole", decoder="wavelet"),
    ])
    assert isinstance(failed.exception(), NonFiniteError)
    assert isinstance(stopped.exception(), InterruptedRunError)
    assert short.result().epoch == 1
    assert whole.result().epoch == 4
    assert outcome(make_trainer, "whole") == outcome(make_trainer, "alone")


def test_one_that_goes_on_from_a_checkpoint_lets_those_behind_it_catch_up_and_joins_them(make_trainer: Make) -> None:
    job(make_trainer, "alone", decoder="wavelet")(Alone())
    job(make_trainer, "resumed", decoder="wavelet", epochs=4, patience=1)(Alone())
    job(make_trainer, "half", decoder="wavelet", epochs=2)(Alone())
    passes: list[int] = []
    futures = side_by_side([job(make_trainer, "half", passes, resume=True, decoder="wavelet"),
                            job(make_trainer, "new", passes, decoder="transposed_conv")])
    assert [future.result().epoch for future in futures] == [4, 4]
    assert len(passes) == 4 * 3  # those of the new one: the other has made none of its own
    assert outcome(make_trainer, "half")[BEST]["model"] == outcome(make_trainer, "alone")[BEST]["model"]


def test_what_is_spared_is_what_it_took_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("inversion.training.cotraining.time.perf_counter", lambda: now[0])

    def make() -> list[Tensor]:
        now[0] += 3
        return [torch.zeros(1)]

    def take(company: Company) -> float:
        for step in range(2):
            company.turn((1, step))
            company.get(("features", step), make)
        return company.spared_seconds()

    assert sorted(future.result() for future in side_by_side([take] * 3)) == [0, 6, 6]
    assert now == [6]


def test_only_one_works_at_a_time_and_who_is_furthest_behind_goes_first() -> None:
    order: list[tuple[int, int]] = []
    starts = (2, 0, 1)

    def work(number: int) -> Callable[[Company], None]:
        def do(company: Company) -> None:
            for step in range(starts[number], 4):
                company.turn((1, step))
                order.append((step, number))

        return do

    for future in side_by_side([work(number) for number in range(3)]):
        future.result()
    assert order == sorted(order)
    assert len(order) == 2 + 4 + 3


def test_all_heed_a_stop_before_their_next_step(make_trainer: Make) -> None:
    class Stop(Listener):
        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            if (epoch, step) == (2, 1):
                stop.set("asked by a test")

    stop = StopRequest()
    futures = side_by_side([job(make_trainer, decoder, decoder=decoder, listeners=[Stop()], stop=stop)
                            for decoder in DECODERS])
    assert [type(future.exception()) for future in futures] == [InterruptedRunError] * 4
    assert [outcome(make_trainer, decoder)[LAST]["progress"]["step"] for decoder in DECODERS] == [1, 0, 0, 0]


def test_an_interruption_between_two_turns_reaches_those_that_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[str] = []

    def work(name: str) -> Callable[[Company], None]:
        def do(company: Company) -> None:
            try:
                company.turn((1, 0))
            except KeyboardInterrupt:
                reached.append(name)
                raise

        return do

    def interrupt(together: Together, position: tuple[int, int]) -> None:
        if position == (1, 0):
            raise KeyboardInterrupt

    monkeypatch.setattr(Together, "_go_to", interrupt)
    with pytest.raises(KeyboardInterrupt):
        side_by_side([work("one"), work("other")])
    assert reached == ["one", "other"]


def test_a_job_that_is_alone_has_nobody_to_wait_for() -> None:
    future, = side_by_side([lambda company: company.size])
    assert future.result() == 1
    assert [future.result() for future in side_by_side([lambda company: company.size] * 3)] == [3, 3, 3]
