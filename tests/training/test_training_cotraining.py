"""Several decoders on one encoder pass: the same numbers as alone, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion.errors import InterruptedRunError, NonFiniteError
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import BEST, LAST, load_checkpoint
from inversion.training.cotraining import CoTrainingGroup, Position, Steps, run_alone, train_together
from inversion.training.state import TrainingState
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer

Make = Callable[..., Trainer]
DECODERS = ("transposed_conv", "attention", "wavelet", "frequency_aware")
OF_THE_CLOCK = {"seconds_in_epoch", "train_seconds", "validation_seconds", "peak_memory_mb", "last_metrics"}


def job(make: Make, folder: str, passes: list[int] | None = None, resume: bool = False,
        **values: Any) -> Callable[[CoTrainingGroup], Steps[TrainingState]]:
    """A run of a group; ``passes`` is filled with the sizes of the batches that it encodes while it trains."""

    def steps(group: CoTrainingGroup) -> Steps[TrainingState]:
        trainer = make(folder, group=group, **values)
        encode = trainer.model.encode

        def counted(images: Tensor, seeds: Sequence[int] | None = None) -> list[Tensor]:
            if passes is not None and torch.is_grad_enabled():  # in training alone
                passes.append(len(images))
            maps: list[Tensor] = encode(images, seeds)
            return maps

        trainer.model.encode = counted
        if resume:
            trainer.resume(trainer.folder / LAST)
        return (yield from trainer.steps())

    return steps


def alone(make: Make, folder: str, passes: list[int] | None = None, **values: Any) -> TrainingState:
    return run_alone(job(make, folder, passes, **values)(CoTrainingGroup()))


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
    separate: list[int] = []
    for decoder in DECODERS:
        alone(make_trainer, f"alone {decoder}", separate, decoder=decoder)
    together: list[int] = []
    futures = train_together([job(make_trainer, f"together {decoder}", together, decoder=decoder)
                            for decoder in DECODERS])
    assert [future.result().epoch for future in futures] == [4] * 4
    assert len(separate) == 4 * len(together)  # every batch was encoded once instead of four times
    for decoder in DECODERS:
        assert outcome(make_trainer, f"together {decoder}") == outcome(make_trainer, f"alone {decoder}")


def test_one_that_fails_or_is_stopped_or_ends_early_leaves_the_others_as_they_are(make_trainer: Make) -> None:
    class StopAfter(Callback):
        def __init__(self, stop: StopRequest) -> None:
            self.stop = stop

        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            if (epoch, step) == (2, 1):
                self.stop.set("asked by a test")

    stop = StopRequest()
    alone(make_trainer, "alone", decoder="wavelet")
    failed, stopped, short, whole = train_together([
        job(make_trainer, "failed", decoder="wavelet", lpips=False, batch_size=2, lr=1e30),
        job(make_trainer, "stopped", decoder="transposed_conv", callbacks=[StopAfter(stop)], stop=stop),
        job(make_trainer, "short", decoder="frequency_aware", epochs=1),
        job(make_trainer, "whole", decoder="wavelet"),
    ])
    assert isinstance(failed.exception(), NonFiniteError)
    assert isinstance(stopped.exception(), InterruptedRunError)
    assert short.result().epoch == 1
    assert whole.result().epoch == 4
    assert outcome(make_trainer, "whole") == outcome(make_trainer, "alone")


def test_one_that_goes_on_from_a_checkpoint_lets_those_behind_it_catch_up_and_joins_them(make_trainer: Make) -> None:
    alone(make_trainer, "alone", decoder="wavelet")
    alone(make_trainer, "resumed", decoder="wavelet", epochs=4, patience=1)
    alone(make_trainer, "half", decoder="wavelet", epochs=2)
    passes: list[int] = []
    futures = train_together([job(make_trainer, "half", passes, resume=True, decoder="wavelet"),
                            job(make_trainer, "new", passes, decoder="transposed_conv")])
    assert [future.result().epoch for future in futures] == [4, 4]
    assert len(passes) == 4 * 3  # those of the new one: the other has made none of its own
    assert outcome(make_trainer, "half")[BEST]["model"] == outcome(make_trainer, "alone")[BEST]["model"]


def test_what_is_saved_is_what_it_took_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("inversion.training.cotraining.time.perf_counter", lambda: now[0])

    def compute() -> list[Tensor]:
        now[0] += 3
        return [torch.zeros(1)]

    def take(group: CoTrainingGroup) -> Steps[float]:
        saved = 0.0
        for step in range(2):
            yield 1, step
            saved += group.get((1, step), "features", compute)[1]
        return saved

    assert sorted(future.result() for future in train_together([take] * 3)) == [0, 6, 6]
    assert now == [6]


def steps_from(start: int, reached: Callable[[int], object]) -> Callable[[CoTrainingGroup], Steps[int]]:
    """A run of four steps that is resumed at ``start``; tells of each, and returns the size of its group."""

    def steps(group: CoTrainingGroup) -> Steps[int]:
        for step in range(start, 4):
            yield 1, step
            reached(step)
        return group.size

    return steps


def test_whoever_is_furthest_behind_goes_first() -> None:
    order: list[tuple[int, int]] = []
    runs = [steps_from(start, lambda step, number=number: order.append((step, number)))  # type: ignore[misc]
            for number, start in enumerate((2, 0, 1))]
    assert [future.result() for future in train_together(runs)] == [3, 3, 3]
    assert order == sorted(order)
    assert len(order) == 2 + 4 + 3


def test_all_heed_a_stop_before_their_next_step(make_trainer: Make) -> None:
    class Stop(Callback):
        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            if (epoch, step) == (2, 1):
                stop.set("asked by a test")

    stop = StopRequest()
    futures = train_together([job(make_trainer, decoder, decoder=decoder, callbacks=[Stop()], stop=stop)
                            for decoder in DECODERS])
    assert [type(future.exception()) for future in futures] == [InterruptedRunError] * 4
    assert [outcome(make_trainer, decoder)[LAST]["progress"]["step"] for decoder in DECODERS] == [1, 0, 0, 0]


def test_an_interruption_between_two_steps_reaches_the_runs_that_have_begun() -> None:
    reached: list[str] = []

    class Interrupting(tuple[int, int]):
        def __lt__(self, other: object) -> bool:  # the scheduler compares positions
            raise KeyboardInterrupt

    def run(name: str, position: Position) -> Callable[[CoTrainingGroup], Steps[None]]:
        def steps(group: CoTrainingGroup) -> Steps[None]:
            try:
                yield position
            except KeyboardInterrupt:
                reached.append(name)
                raise

        return steps

    with pytest.raises(KeyboardInterrupt):
        train_together([run("one", (1, 0)), run("other", Interrupting((1, 1)))])
    assert reached == ["one", "other"]


def test_a_run_alone_has_a_group_of_its_own() -> None:
    future, = train_together([steps_from(0, lambda step: None)])
    assert future.result() == 1
