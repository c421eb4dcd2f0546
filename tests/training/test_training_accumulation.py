"""Gradients accumulated over parts of a batch are those of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inversion.images import from_stored
from inversion.losses.reconstruction import LossTerms, make_targets
from inversion.training.checkpoint import LAST, load_checkpoint
from inversion.training.trainer import Trainer
from tests.training.same import assert_same
from tests.training.short_memory import Told, limit_memory

Make = Callable[..., Trainer]


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
