"""A run that was stopped anywhere and resumed in fresh objects is the run that was not, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from inversion.errors import InterruptedRunError
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import BEST, LAST, CheckpointError, furthest_checkpoint, load_checkpoint
from inversion.training.evaluate import evaluate
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer
from tests.training.same import assert_same

Make = Callable[..., Trainer]
MakeRecorder = Callable[[], Any]


DECODERS = pytest.mark.parametrize("decoder", ["transposed_conv", "attention"])
STEPS = 3
"""Optimiser steps an epoch."""


class StopAt(Callback):
    """Asks to stop after a step."""

    def __init__(self, stop: StopRequest, epoch: int, step: int) -> None:
        self.stop, self.epoch, self.step = stop, epoch, step

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        if (epoch, step) == (self.epoch, self.step):
            self.stop.set("asked by a test")


class Killed(BaseException):
    """The process dies."""


class DieAfter(Callback):
    """Kills the process after an epoch was saved, before anybody else hears of it."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch == self.epoch:
            raise Killed


def state(trainer: Trainer) -> dict[str, Any]:
    """All that a run came to: checkpoints, the model as it is left, the scores."""
    scores = evaluate(trainer.model, trainer.data.validation, trainer.loss, trainer.engine)
    return {
        "last": load_checkpoint(trainer.folder / LAST), "best": load_checkpoint(trainer.folder / BEST),
        "model": trainer.model.learned_state(), "optimizer": trainer.optimizer.state_dict(),
        "schedule": trainer.schedule.state_dict(), "progress": trainer.state.to_dict(),
        "scores": [scores.psnr, scores.ssim, scores.mse, scores.lpips],
    }


def resumed(make: Make, trainer: Trainer, recorder: Any, **values: Any) -> Trainer:
    """Fresh objects that went on from a trainer's last checkpoint, after chance was used up otherwise."""
    torch.manual_seed(99)
    torch.rand(17)
    fresh = make(trainer.folder.name, [recorder], **values)
    fresh.resume(trainer.folder / LAST)
    fresh.fit()
    return fresh


@DECODERS
def test_four_epochs_equal_two_and_two(decoder: str, make_trainer: Make, recorder: MakeRecorder) -> None:
    whole_told, told = recorder(), recorder()
    whole = make_trainer("whole", [whole_told], decoder=decoder)
    whole.fit()
    half = make_trainer("half", [told], decoder=decoder, epochs=2)
    half.fit()
    rest = resumed(make_trainer, half, told, decoder=decoder)
    assert_same(state(rest), state(whole))
    assert_same(told.epochs, whole_told.epochs)
    assert sorted(told.epochs) == [1, 2, 3, 4]
    assert_same(told.steps, whole_told.steps)


@DECODERS
def test_a_run_killed_between_saving_an_epoch_and_telling_of_it_tells_it_when_it_goes_on(
        decoder: str, make_trainer: Make, recorder: MakeRecorder) -> None:
    whole_told, told = recorder(), recorder()
    whole = make_trainer("whole", [whole_told], decoder=decoder)
    whole.fit()
    dead = make_trainer("dead", [DieAfter(2), told], decoder=decoder)
    with pytest.raises(Killed):
        dead.fit()
    assert sorted(told.epochs) == [1]
    rest = resumed(make_trainer, dead, told, decoder=decoder)
    assert_same(state(rest), state(whole))
    assert_same(told.epochs, whole_told.epochs)


@DECODERS
@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 2), (2, 3), (4, 3)])
def test_a_run_stopped_in_the_middle_of_an_epoch_goes_on_as_if_it_had_not_been(
        decoder: str, epoch: int, step: int, make_trainer: Make, recorder: MakeRecorder) -> None:
    whole_told, told, stop = recorder(), recorder(), StopRequest()
    whole = make_trainer("whole", [whole_told], decoder=decoder)
    whole.fit()
    stopped = make_trainer("stopped", [told, StopAt(stop, epoch, step)], stop, decoder=decoder)
    with pytest.raises(InterruptedRunError, match=rf"^stopped after step {step} of epoch {epoch}: asked by a test\."):
        stopped.fit()
    assert told.steps[-1][:3] == (epoch, step, STEPS)
    assert told.checkpoints[-1][1]
    rest = resumed(make_trainer, stopped, told, decoder=decoder)
    assert_same(state(rest), state(whole))
    assert_same(told.epochs, whole_told.epochs)
    assert_same(told.steps, whole_told.steps)


def test_a_run_stopped_during_validation_goes_on_as_if_it_had_not_been_and_counts_no_time_twice(
        make_trainer: Make, recorder: MakeRecorder) -> None:
    whole_told, told, stop = recorder(), recorder(), StopRequest()
    whole = make_trainer("whole", [whole_told], layers=("vgg16:block1", "resnet34:layer1"))
    whole.fit()
    stopped = make_trainer("stopped", [told], stop, layers=("vgg16:block1", "resnet34:layer1"))
    looks, look = 0, stopped.stop_if_requested

    def at_the_second_validation() -> None:  # looked before each step, and before each batch of validation
        nonlocal looks
        looks += 1
        if looks == 2 * (STEPS + 1):
            stop.set("asked by a test")
        look()

    stopped.stop_if_requested = at_the_second_validation  # type: ignore[method-assign]
    with pytest.raises(InterruptedRunError, match="after step 3 of epoch 2"):
        stopped.fit()
    progress = stopped.state
    assert (progress.epoch, progress.step) == (1, 3)
    before = progress.train_seconds
    assert progress.seconds_in_epoch > 0
    rest = resumed(make_trainer, stopped, told, layers=("vgg16:block1", "resnet34:layer1"), epochs=2)
    assert rest.state.train_seconds - before == pytest.approx(
        progress.seconds_in_epoch + rest.state.validation_seconds - progress.validation_seconds, abs=1e-3)
    rest = resumed(make_trainer, stopped, told, layers=("vgg16:block1", "resnet34:layer1"))
    assert_same(state(rest), state(whole))
    assert_same(told.epochs, whole_told.epochs)


def test_a_run_stopped_again_and_again_still_comes_to_the_same(make_trainer: Make, recorder: MakeRecorder) -> None:
    whole, told = make_trainer("whole", decoder="wavelet"), recorder()
    whole.fit()
    trainer = make_trainer("stopped", [told], decoder="wavelet")
    for _ in range(4 * STEPS):
        stop = StopRequest()
        stop.set("at once")
        once = make_trainer("stopped", [told], stop, decoder="wavelet")
        if (trainer.folder / LAST).is_file():
            once.resume(trainer.folder / LAST)
        with pytest.raises(InterruptedRunError):
            once.fit()
    rest = resumed(make_trainer, trainer, told, decoder="wavelet")
    assert_same(state(rest), state(whole))


def test_a_finished_run_that_is_resumed_has_nothing_to_do_and_its_best_model(
        make_trainer: Make, recorder: MakeRecorder) -> None:
    whole, told = make_trainer("whole"), recorder()
    whole.fit()
    expected = state(whole)
    again = resumed(make_trainer, whole, told)
    assert told.steps == []
    assert sorted(told.epochs) == [4]
    assert_same(again.model.learned_state(), expected["model"])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_numbers_whatever_ran_before(
        precision: str, make_trainer: Make, recorder: MakeRecorder) -> None:
    first_told, second_told = recorder(), recorder()
    first = make_trainer("first", [first_told], decoder="frequency_aware", epochs=2, precision=precision)
    first.fit()
    torch.manual_seed(7)
    make_trainer("between", decoder="attention", epochs=1, seed=5).fit()
    second = make_trainer("second", [second_told], decoder="frequency_aware", epochs=2, precision=precision)
    second.fit()
    assert_same(state(second), state(first))
    assert_same(second_told.epochs, first_told.epochs)


def test_another_seed_gives_other_numbers(make_trainer: Make, recorder: MakeRecorder) -> None:
    told = [recorder(), recorder()]
    for seed, one in enumerate(told):
        make_trainer(f"seed{seed}", [one], epochs=1, seed=seed).fit()
    assert told[0].epochs[1]["train/loss"] != told[1].epochs[1]["train/loss"]
    assert told[0].epochs[1]["val/loss"] != told[1].epochs[1]["val/loss"]


def test_training_leaves_the_global_random_state_alone(make_trainer: Make) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    make_trainer(decoder="attention", epochs=1).fit()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_another_configuration_is_refused(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=1)
    trainer.fit()
    other = make_trainer(epochs=1)
    other.digest = "another"
    before = {name: value.clone() for name, value in other.model.learned_state().items()}
    with pytest.raises(CheckpointError, match="belongs to configuration digest, not to another"):
        other.resume(trainer.folder / LAST)
    assert_same(other.model.learned_state(), before)


def test_of_several_last_checkpoints_the_furthest_is_taken_and_broken_ones_are_passed_over(
        make_trainer: Make, tmp_path: Path) -> None:
    stop = StopRequest()
    make_trainer("one", epochs=1).fit()
    with pytest.raises(InterruptedRunError):
        make_trainer("further", [StopAt(stop, 2, 1)], stop).fit()
    (tmp_path / "broken.pt").write_bytes((tmp_path / "further" / LAST).read_bytes()[:5000])
    paths = [tmp_path / "one" / LAST, tmp_path / "further" / LAST, tmp_path / "broken.pt", tmp_path / "absent.pt"]
    assert furthest_checkpoint(paths) == paths[1]
    assert furthest_checkpoint(paths[::-1]) == paths[1]
    with pytest.raises(CheckpointError, match="no checkpoint to resume from"):
        furthest_checkpoint(paths[2:])
    with pytest.raises(CheckpointError, match="no checkpoint to resume from: there is none"):
        furthest_checkpoint([])
