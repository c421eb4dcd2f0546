"""Training with modified features: resumed, side by side, and in parts, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion.errors import InterruptedRunError
from inversion.images import from_stored
from inversion.training.callbacks import Callback
from inversion.training.checkpoint import BEST, LAST, load_checkpoint
from inversion.training.cotraining import CoTrainingGroup, Steps, train_together
from inversion.training.state import TrainingState
from inversion.training.stop import StopRequest
from inversion.training.trainer import Trainer
from tests.training.same import assert_same

Make = Callable[..., Trainer]

CHAINS = pytest.mark.parametrize("name", [
    "vgg16:block1/noise=0.3", "vgg16:block1/pool=2/channels=pca:6/bits=4/noise=0.1", "vgg16:block2/channels=5"])


class StopAt(Callback):
    """Asks to stop after a step."""

    def __init__(self, stop: StopRequest, epoch: int, step: int) -> None:
        self.stop, self.place = stop, (epoch, step)

    def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
        if (epoch, step) == self.place:
            self.stop.set("asked by a test")


def record(trainer: Trainer) -> list[list[Tensor]]:
    """The features of every batch that it trains on."""
    seen, encode = [], trainer.model.encode

    def keep(*arguments: Any) -> list[Tensor]:
        maps: list[Tensor] = encode(*arguments)
        if torch.is_grad_enabled():
            seen.append(maps)
        return maps

    setattr(trainer.model, "encode", keep)  # noqa: B010
    return seen


@CHAINS
def test_a_run_that_was_stopped_within_an_epoch_goes_on_to_the_bit(name: str, make_trainer: Make) -> None:
    whole = make_trainer("whole", layers=[name], epochs=2)
    whole.fit()
    stop = StopRequest()
    halted = make_trainer("halted", [StopAt(stop, 2, 1)], stop, layers=[name], epochs=2)
    with pytest.raises(InterruptedRunError):
        halted.fit()
    torch.manual_seed(99)
    fresh = make_trainer("halted", layers=[name], epochs=2)
    fresh.resume(halted.folder / LAST)
    fresh.fit()
    for file in (LAST, BEST):
        assert_same(load_checkpoint(fresh.folder / file), load_checkpoint(whole.folder / file))


def test_noise_is_fresh_in_every_step_and_depends_on_the_runs_seed(make_trainer: Make) -> None:
    drawn = []
    for seed in (0, 1):
        trainer = make_trainer(f"seed {seed}", layers=["vgg16:block1/noise=0.3"], seed=seed)
        trainer._calibrate()
        images = from_stored(trainer.data.calibration[:2])
        seen = record(trainer)
        for place in ((0, 0), (0, 1), (1, 0)):
            trainer.gradients.of(images, 2, [], place)
        clean = trainer.model.frozen[0].differentiable(images)
        drawn += [maps[0] - clean for maps in seen]
    assert len(drawn) == 6
    for index, one in enumerate(drawn):
        assert all(abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.1
                   for other in drawn[:index])


def test_the_noise_of_an_image_does_not_depend_on_the_micro_batch(make_trainer: Make) -> None:
    trainer = make_trainer(layers=["vgg16:block1/noise=0.3"])
    trainer._calibrate()
    images, seen = from_stored(trainer.data.calibration), record(trainer)
    before = [buffer.clone() for buffer in trainer.gradients.statistics]
    for size in (5, 2):
        trainer.gradients.of(images, size, before, (0, 0))
    whole, *parts = (maps[0] for maps in seen)
    assert [len(part) for part in parts] == [2, 2, 1]
    torch.testing.assert_close(torch.cat(parts), whole)


def test_side_by_side_runs_share_noisy_features_and_come_to_what_each_comes_to_alone(make_trainer: Make) -> None:
    values: dict[str, Any] = {"layers": ["vgg16:block1/channels=pca:8/noise=0.2"], "epochs": 2}
    decoders = ("transposed_conv", "wavelet")
    for decoder in decoders:
        make_trainer(f"alone {decoder}", decoder=decoder, **values).fit()

    def job(decoder: str) -> Callable[[CoTrainingGroup], Steps[TrainingState]]:
        return lambda group: make_trainer(f"together {decoder}", decoder=decoder, group=group, **values).steps()

    futures = train_together(list(map(job, decoders)))
    assert [future.result().epoch for future in futures] == [2, 2]
    for decoder in decoders:
        one, other = (load_checkpoint(make_trainer(f"{how} {decoder}").folder / LAST) for how in ("alone", "together"))
        assert_same(one["model"], other["model"])


def test_scores_are_the_same_each_time_and_in_any_batch(make_trainer: Make) -> None:
    trainer = make_trainer(layers=["vgg16:block1/noise=0.3"], epochs=1)
    trainer.fit()
    crops = trainer.data.validation
    together = trainer.evaluator.score(crops)
    assert trainer.evaluator.score(crops).psnr == together.psnr
    alone = [trainer.evaluator.score(crops[index:index + 1]).psnr[0] for index in range(len(crops))]
    assert alone == pytest.approx(together.psnr, abs=1e-4)
