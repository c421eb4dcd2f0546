"""Training on a device whose memory is short: smaller batches at a time, the same effective batch."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inversion.errors import InterruptedRunError, InversionError, NonFiniteError, OutOfMemoryError
from inversion.images import from_stored
from inversion.losses.reconstruction import LossTerms, make_targets
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import BEST, LAST, load_checkpoint, save_checkpoint
from inversion.training.evaluate import Scores
from inversion.training.memory import BatchSize, split_evenly, until_it_fits
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer

Make = Callable[..., Trainer]
TIMES_AND_MEMORY = {"seconds_in_epoch", "train_seconds", "validation_seconds", "peak_memory_mb", "images_per_second"}
MESSAGE = "CUDA out of memory. Tried to allocate 9.00 GiB.\nmore"


class Told(Callback):
    """Remembers micro-batches and losses, in the order told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.losses: list[float | None] = []

    def on_micro_batch(self, size: int) -> None:
        self.sizes.append(size)

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        self.losses.append(loss)


class StopAt(Callback):
    """Asks to stop after a step."""

    def __init__(self, stop: StopRequest, epoch: int, step: int) -> None:
        self.stop, self.position = stop, (epoch, step)

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        if (epoch, step) == self.position:
            self.stop.set("asked by a test")


def limit_memory(trainer: Trainer, images: int, training: bool = True) -> list[int]:
    """More than ``images`` at once do not fit, which shows after the forward pass; returns the sizes tried."""
    tried: list[int] = []

    def overflow(model: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        if model.training == training:
            tried.append(len(inputs[0]))
            if tried[-1] > images:
                raise torch.OutOfMemoryError(MESSAGE)

    trainer.model.register_forward_hook(overflow)
    return tried


def fix_statistics(trainer: Trainer) -> None:
    """BatchNorm no longer looks at the batch, so that the mean loss of a batch is that of its parts."""
    for module in trainer.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = lambda *_: None  # type: ignore[method-assign, assignment]


def gradients_of_steps(trainer: Trainer) -> list[dict[str, Tensor]]:
    """Filled with the gradients that each optimiser step sees."""
    seen: list[dict[str, Tensor]] = []

    def look(*_: Any) -> None:
        seen.append({name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()
                     if parameter.grad is not None})

    trainer.optimizer.register_step_pre_hook(look)
    return seen


def whole_batch(trainer: Trainer, images: Tensor) -> LossTerms:
    """The loss of a batch, in one piece."""
    terms: LossTerms = trainer.loss(trainer.model(images), make_targets(images, trainer.config.protocol).loss)
    return terms


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Equal to the bit, but for what a clock or the memory says."""
    assert type(one) is type(other), place
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one.keys() - TIMES_AND_MEMORY:
            assert_same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{place}/{index}")
    elif isinstance(one, Tensor):
        assert torch.equal(one, other), place
    else:
        assert one == other, place


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


# parts

@pytest.mark.parametrize(("images", "size", "parts"), [
    (4, 4, [4]), (4, 2, [2, 2]), (5, 3, [3, 2]), (5, 4, [3, 2]), (7, 3, [3, 2, 2]), (5, 2, [2, 2, 1]), (3, 1, [1] * 3),
])
def test_parts_are_few_and_even_and_keep_the_order(images: int, size: int, parts: list[int]) -> None:
    batch = torch.arange(images)
    split = split_evenly(batch, size)
    assert [len(part) for part in split] == parts
    assert torch.equal(torch.cat(list(split)), batch)


def test_sizes_are_halved_and_rounded_up_until_one_fits() -> None:
    sizes: list[tuple[int, int]] = []

    def compute(size: int) -> int:
        if size > 1:
            raise torch.OutOfMemoryError(MESSAGE)
        return 10 * size

    assert until_it_fits(compute, 5, "image_size 8", lambda *pair: sizes.append(pair)) == 10
    assert sizes == [(5, 3), (3, 2), (2, 1)]


def test_another_error_is_not_taken_for_short_memory() -> None:
    def compute(_: int) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        until_it_fits(compute, 4, "image_size 8")


def test_the_failed_attempt_is_freed_and_the_cache_emptied_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    activations: list[weakref.ref[Tensor]] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(activations[-1]() is None))

    def compute(size: int) -> int:
        assert all(reference() is None for reference in activations)
        activation = torch.ones(size)
        cycle: list[Any] = [activation]
        cycle.append(cycle)
        activations.append(weakref.ref(activation))
        if size > 1:
            raise torch.OutOfMemoryError(MESSAGE)
        return size

    assert until_it_fits(compute, 4, "image_size 8") == 1
    assert emptied == [True, True]


# training

@pytest.mark.parametrize("decoder", ["transposed_conv", "attention"])
@pytest.mark.parametrize(("batch_size", "micro_batch", "sizes"), [
    (2, 1, [1, 1]), (5, 3, [3, 2]), (5, 2, [2, 2, 1]), (5, 4, [3, 2]), (5, 1, [1] * 5),
])
@pytest.mark.parametrize("protocol", ["image", "published"])
def test_accumulated_gradients_and_loss_terms_are_those_of_the_whole_batch(
        decoder: str, batch_size: int, micro_batch: int, sizes: list[int], protocol: str, make_trainer: Make) -> None:
    told = Told()
    trainer = make_trainer(callbacks=[told], decoder=decoder, batch_size=batch_size, protocol=protocol, epochs=1)
    trainer.model.train()
    fix_statistics(trainer)
    trainer.model.calibrate([from_stored(trainer.data.calibration)])
    images = from_stored(next(trainer.data.batches.epoch(1)))
    terms = whole_batch(trainer, images)
    names = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(terms.total, trainer.model.trainable())
    tried, seen = limit_memory(trainer, 9), gradients_of_steps(trainer)
    trainer.state.micro_batch = micro_batch
    trainer.fit()
    assert tried[:len(sizes)] == sizes
    assert seen[0].keys() == set(names)
    for name, gradient in zip(names, expected, strict=True):
        torch.testing.assert_close(seen[0][name], gradient, rtol=1e-4, atol=1e-3 * gradient.abs().max().item())
    assert told.losses[0] == pytest.approx(terms.total.item(), rel=1e-5)


def test_the_means_of_an_epoch_count_every_image_once_with_an_uneven_last_batch(
        make_trainer: Make, recorder: Callable[[], Any]) -> None:
    metrics = []
    for micro_batch in (0, 2):  # batches of 3 and 2 images, or parts of 2, 1 and 2
        told = recorder()
        trainer = make_trainer(f"by{micro_batch}", [told], batch_size=3, epochs=1, lr=1e-12)
        fix_statistics(trainer)
        trainer.state.micro_batch = micro_batch
        tried = limit_memory(trainer, 9)
        trainer.fit()
        metrics.append({name: told.epochs[1][name] for name in ("train/loss", "train/mse", "train/lpips")})
    assert tried == [2, 1, 2]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-5)


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


@pytest.mark.parametrize("decoder", ["transposed_conv", "attention"])
def test_without_short_memory_a_step_is_the_plain_one_to_the_bit(decoder: str, make_trainer: Make) -> None:
    told = Told()
    trainer, plain = (make_trainer(name, [told], decoder=decoder, epochs=2, lr_patience=9) for name in "ab")
    trainer.fit()
    plain.model.calibrate([from_stored(part) for part in plain.data.calibration.split(2)])
    plain.model.train()
    losses = []
    for epoch in (1, 2):
        for stored in plain.data.batches.epoch(epoch):
            terms = whole_batch(plain, from_stored(stored))
            plain.optimizer.zero_grad()
            terms.total.backward()
            plain.optimizer.step()
            losses.append(terms.total.item())
    assert told.losses == losses
    assert told.sizes == []
    assert_same(load_checkpoint(trainer.folder / LAST)["model"], plain.model.learned_state())


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
    with pytest.raises(
            InversionError, match=r"^step \d of epoch 1: BatchNorm .* single image with a 1×1 feature map\. Try"):
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


# without gradients

def values_of(scores: Scores) -> dict[str, Any]:
    return {name: pytest.approx(getattr(scores, name), rel=1e-4)
            for name in ("psnr", "ssim", "mse", "lpips", "loss_mse", "loss_lpips")}


@pytest.mark.parametrize("protocol", ["image", "published"])
def test_scoring_takes_fewer_images_at_a_time_for_good_where_they_do_not_fit(
        protocol: str, make_trainer: Make, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(protocol=protocol)
    expected = values_of(trainer.evaluator.score(trainer.data.validation))
    tried = limit_memory(trainer, 1, training=False)
    scores = trainer.evaluator.score(trainer.data.validation)
    assert tried == [3, 2, 1, 1, 1]
    assert {name: getattr(scores, name) for name in expected} == expected
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "out of memory: 3 images at a time do not fit", "out of memory: 2 images at a time do not fit"]
    trainer.evaluator.score(trainer.data.validation)
    assert tried[5:] == [1, 1, 1]
    assert trainer.state.micro_batch == 0


def test_memory_that_runs_out_in_a_score_is_met_like_that_of_the_model(
        make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from inversion import metrics

    trainer, real = make_trainer(), metrics.ssim
    expected = values_of(trainer.evaluator.score(trainer.data.validation))

    def ssim(images: Tensor, targets: Tensor) -> Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError(MESSAGE)
        return real(images, targets)

    monkeypatch.setattr(metrics, "ssim", ssim)
    scores = trainer.evaluator.score(trainer.data.validation)
    assert {name: getattr(scores, name) for name in expected} == expected
    assert trainer.evaluator.batch.size == 2


def test_what_failed_attempts_took_is_not_counted(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("inversion.training.evaluate.synchronised_time", lambda _: next(ticks))
    trainer = make_trainer()
    limit_memory(trainer, 1, training=False)
    scores = trainer.evaluator.score(trainer.data.validation)
    assert (scores.forward_seconds, scores.seconds) == (3, 9)  # each image: 1 forward, 3 in all


def test_reconstructions_are_the_same_a_few_at_a_time(make_trainer: Make) -> None:
    trainer = make_trainer()
    names = trainer.data.validation_names
    together = trainer.evaluator.reconstruct(trainer.data.validation, names)
    tried = limit_memory(trainer, 1, training=False)
    pictures = trainer.evaluator.reconstruct(trainer.data.validation, names)
    assert tried == [3, 2, 1, 1, 1]
    assert [picture.name for picture in pictures] == list(names)
    for picture, expected in zip(pictures, together, strict=True):
        assert np.array_equal(picture.original, expected.original)
        apart = np.abs(picture.reconstruction.astype(int) - expected.reconstruction)
        assert apart.max() <= 1
        assert apart.mean() < 1e-3  # only what lies between two levels can be rounded differently


def test_one_image_that_cannot_be_reconstructed_fails_the_run_by_name(make_trainer: Make) -> None:
    trainer = make_trainer()
    limit_memory(trainer, 0, training=False)
    with pytest.raises(OutOfMemoryError, match=r"^out of memory: not even one image fits at image_size 32 with encode"):
        trainer.evaluator.reconstruct(trainer.data.validation, trainer.data.validation_names)


def test_features_are_measured_a_few_images_at_a_time_where_more_do_not_fit(
        make_trainer: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make_trainer("whole", epochs=1, batch_size=5)
    expected.fit()
    trainer = make_trainer(epochs=1, batch_size=5)
    encode: Callable[[Tensor], list[Tensor]] = trainer.model.encode
    tried: list[int] = []

    def short_of_memory(images: Tensor) -> list[Tensor]:
        tried.append(len(images))
        if tried in ([5], [5, 3]):
            raise torch.OutOfMemoryError(MESSAGE)
        return encode(images)

    monkeypatch.setattr(trainer.model, "encode", short_of_memory)
    trainer.fit()
    assert tried[:5] == [5, 3, 2, 2, 1]
    scales = [one.model.learned_state()["scales.0.scale"].item() for one in (trainer, expected)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)
    assert len(caplog.records) == 2
    assert trainer.state.micro_batch == 0


def test_a_batch_size_goes_through_all_images_in_order_and_remembers_what_fits() -> None:
    batch, seen = BatchSize(4, "image_size 8"), []

    def compute(images: Tensor) -> list[int]:
        seen.append(len(images))
        if 7 in images and len(images) > 2:
            raise torch.OutOfMemoryError(MESSAGE)
        return [int(image) for image in images]

    def flat(rows: Iterator[list[int]]) -> list[int]:
        return [value for row in rows for value in row]

    assert flat(batch.map(compute, torch.arange(11))) == list(range(11))
    assert seen == [4, 4, 2, 2, 2, 1]
    assert batch.size == 2
    assert flat(batch.map(compute, torch.arange(0))) == []
