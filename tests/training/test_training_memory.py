"""Training on a device whose memory is short: smaller batches at a time, the same effective batch."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inversion.errors import InterruptedRunError, InversionError, NonFiniteError, OutOfMemoryError
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer
from tests.training.same import assert_same
from tests.training.short_memory import MESSAGE, Told, limit_memory

Make = Callable[..., Trainer]


class StopAt(Callback):
    """Asks to stop after a step."""

    def __init__(self, stop: StopRequest, epoch: int, step: int) -> None:
        self.stop, self.position = stop, (epoch, step)

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        if (epoch, step) == self.position:
            self.stop.set("asked by a test")


def state(trainer: Trainer) -> dict[str, Any]:
    """All that a run came to."""
    return {"last": load_checkpoint(trainer.folder / LAST), "best": load_checkpoint(trainer.folder / BEST),
            "model": trainer.model.learned_state(), "optimizer": trainer.optimizer.state_dict()}


def begun_at(make: Make, micro_batch: int, **values: Any) -> Trainer:
    """A finished run that had this micro-batch from its first step on."""
    trainer = make("begun", **values)
    trainer.state.micro_batch = micro_batch
    trainer.fit()
    return trainer


@pytest.mark.parametrize("decoder", ["transposed_conv", "wavelet"])
def test_a_batch_that_does_not_fit_is_tried_again_in_halves_as_if_it_had_been_so_from_the_start(
        decoder: str, make_trainer: Make, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    values: dict[str, Any] = {"decoder": decoder, "batch_size": 4, "epochs": 2}
    trainer = make_trainer("short", [told], **values)
    tried = limit_memory(trainer, 2)
    with caplog.at_level(logging.WARNING):
        trainer.fit()
    assert tried == [4, *[2, 2, 1] * 2]
    assert trainer.state.micro_batch == 2
    assert told.sizes == [2]
    warning, = caplog.messages
    assert warning.startswith(
        "out of memory: 4 images at a time do not fit into a training step. Retrying with 2 at a time, whose")
    assert "effective batch of 4" in warning
    assert "BatchNorm" in warning
    assert "not bit-identical" in warning
    assert caplog.records[0].name == "inversion.training.trainer"
    assert_same(state(trainer), state(begun_at(make_trainer, 2, **values)))


def test_a_smaller_last_batch_is_halved_from_its_own_size(make_trainer: Make) -> None:
    told = Told()
    trainer = make_trainer(callbacks=[told], batch_size=3, epochs=1)
    tried = limit_memory(trainer, 9)

    def overflow(model: nn.Module, *_: Any) -> None:
        if model.training and tried == [3, 2]:
            raise torch.OutOfMemoryError(MESSAGE)

    trainer.model.register_forward_hook(overflow)
    trainer.fit()
    assert tried == [3, 2, 1, 1]
    assert told.sizes == [1]


def test_memory_that_runs_out_in_a_later_backward_pass_leaves_no_gradient_behind(
        make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    values: dict[str, Any] = {"batch_size": 5, "epochs": 2}
    trainer = make_trainer("short", [told], **values)
    backward: list[int] = []
    cleared: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: cleared.append(
        all(parameter.grad is None for parameter in trainer.model.parameters())))

    def fail(gradient: Tensor) -> None:
        backward.append(len(gradient))
        if backward in ([5], [5, 3, 2]):  # the whole batch, then the second of two parts
            raise torch.OutOfMemoryError(MESSAGE)

    def watch(model: nn.Module, _: Any, output: Tensor) -> None:
        if model.training:
            output.register_hook(fail)

    trainer.model.register_forward_hook(watch)
    trainer.fit()
    assert backward == [5, 3, 2, 2, 2, 1, 2, 2, 1]
    assert cleared == [True, True]
    assert told.sizes == [3, 2]
    assert_same(state(trainer), state(begun_at(make_trainer, 2, **values)))


def test_the_activations_of_a_failed_step_are_freed_before_it_is_tried_again(make_trainer: Make) -> None:
    trainer = make_trainer(batch_size=4, epochs=1)
    outputs: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def look(model: nn.Module, _: Any) -> None:
        if model.training:
            alive.extend(reference() is not None for reference in outputs)

    def overflow(model: nn.Module, _: Any, output: Tensor) -> None:
        if model.training and not outputs:
            outputs.append(weakref.ref(output))
            raise torch.OutOfMemoryError(MESSAGE)

    trainer.model.register_forward_pre_hook(look)
    trainer.model.register_forward_hook(overflow)
    trainer.fit()
    assert alive
    assert not any(alive)


def test_one_image_that_does_not_fit_fails_the_run_by_name(make_trainer: Make) -> None:
    told = Told()
    trainer = make_trainer(callbacks=[told], batch_size=4)
    before = {name: value.clone() for name, value in trainer.model.learned_state().items()}
    limit_memory(trainer, 0)
    with pytest.raises(OutOfMemoryError) as caught:
        trainer.fit()
    assert str(caught.value) == (
        "out of memory: not even one image fits at image_size 32 with encoder vgg16 and decoder transposed_conv: CUDA "
        "out of memory. Tried to allocate 9.00 GiB. Try a smaller image_size, another decoder or decoder_options, a "
        "device with more memory, or fewer runs per GPU.")
    assert caught.value.kind == "oom"
    assert told.sizes == [2, 1]
    assert told.losses == []
    before["scales.0.scale"] = trainer.model.learned_state()["scales.0.scale"]
    assert_same(trainer.model.learned_state(), before)


def test_numbers_that_are_not_finite_in_one_part_of_a_batch_are_found_before_the_step(make_trainer: Make) -> None:
    def ruined(folder: str, part: int) -> Trainer:
        trainer, calls = make_trainer(folder, batch_size=4), itertools.count(1)
        trainer.state.micro_batch = 2

        def ruin(_: nn.Module, inputs: tuple[Tensor]) -> None:
            if torch.is_grad_enabled() and next(calls) == part:  # in training alone
                inputs[0][0, 0, 5, 5] = torch.nan

        trainer.model.frozen[0].register_forward_pre_hook(ruin)
        return trainer

    good = make_trainer("good", batch_size=4, epochs=1)
    good.state.micro_batch = 2
    good.fit()
    for part in (4, 5):  # of the second epoch's first batch: its parts are 4 and 5
        trainer = ruined(f"part{part}", part)
        with pytest.raises(NonFiniteError, match=r"^step 1 of epoch 2: mse and lpips is not finite"):
            trainer.fit()
        saved, expected = (load_checkpoint(one.folder / LAST) for one in (trainer, good))
        assert_same(saved["model"], expected["model"])


def test_a_resumed_run_goes_on_with_its_micro_batch_and_tells_it(make_trainer: Make) -> None:
    values: dict[str, Any] = {"decoder": "wavelet", "batch_size": 4, "epochs": 3}
    whole = make_trainer("whole", **values)
    limit_memory(whole, 2)
    whole.fit()
    stop, told = StopRequest(), Told()
    stopped = make_trainer("stopped", [StopAt(stop, 2, 1)], stop, **values)
    limit_memory(stopped, 2)
    with pytest.raises(InterruptedRunError):
        stopped.fit()
    resumed = make_trainer("stopped", [told], **values)  # on a device with memory enough
    tried = limit_memory(resumed, 9)
    resumed.resume(resumed.folder / LAST)
    assert told.sizes == [2]
    resumed.fit()
    assert tried == [1, 2, 2, 1]
    assert told.sizes == [2]
    assert_same(state(resumed), state(whole))


def test_a_checkpoint_from_before_there_were_micro_batches_can_be_resumed(make_trainer: Make) -> None:
    make_trainer(epochs=1).fit()
    told = Told()
    resumed = make_trainer(callbacks=[told], epochs=2)
    content = load_checkpoint(resumed.folder / LAST)
    del content["progress"]["micro_batch"]
    save_checkpoint(resumed.folder / LAST, content)
    resumed.resume(resumed.folder / LAST)
    assert resumed.state.micro_batch == 0
    assert told.sizes == []
    assert resumed.fit().epoch == 2


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_a_single_image_with_a_1x1_map_is_refused_in_the_runs_own_terms(micro_batch: int, make_trainer: Make) -> None:
    trainer = make_trainer(layers=("vgg16:block5",), decoder="wavelet")
    assert trainer.model.frozen[0].feature_shape[1:] == (1, 1)
    trainer.state.micro_batch = micro_batch
    message = r"^step \d of epoch 1: BatchNorm .* single image with a 1×1 feature map\. Try"
    with pytest.raises(InversionError, match=message):
        trainer.fit()
    assert trainer.state.step == (0 if micro_batch else 2)


def test_another_value_error_of_a_model_is_left_as_it_is(make_trainer: Make) -> None:
    trainer = make_trainer()

    def fail(model: nn.Module, _: Any) -> None:
        if model.training:
            raise ValueError("something else")

    trainer.model.register_forward_pre_hook(fail)
    with pytest.raises(ValueError, match=r"^something else$"):
        trainer.fit()
