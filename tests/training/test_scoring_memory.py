"""Scoring, reconstructing and measuring features on a device whose memory is short: fewer images at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from inversion.errors import OutOfMemoryError
from inversion.training.evaluate import Scores
from inversion.training.trainer import Trainer
from tests.training.short_memory import MESSAGE, limit_memory

Make = Callable[..., Trainer]


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
    encode: Callable[..., list[Tensor]] = trainer.model.encode
    tried: list[int] = []

    def short_of_memory(images: Tensor, *seeds: Any) -> list[Tensor]:
        tried.append(len(images))
        if tried in ([5], [5, 3]):
            raise torch.OutOfMemoryError(MESSAGE)
        return encode(images, *seeds)

    monkeypatch.setattr(trainer.model, "encode", short_of_memory)
    trainer.fit()
    assert tried[:5] == [5, 3, 2, 2, 1]
    scales = [one.model.learned_state()["scales.0.scale"].item() for one in (trainer, expected)]
    assert scales[0] == pytest.approx(scales[1], rel=1e-6)
    assert len(caplog.records) == 2
    assert trainer.state.micro_batch == 0
