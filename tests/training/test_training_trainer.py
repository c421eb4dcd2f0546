"""Training as it goes well: it learns, keeps the best epoch, cuts the rate, stops early."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from inversion.images import from_stored
from inversion.losses.reconstruction import make_targets
from inversion.metrics import psnr
from inversion.models.decoders import decoders
from inversion.training import evaluator
from inversion.training.checkpoint import BEST, LAST, load_checkpoint
from inversion.training.evaluate import Scores, evaluate
from inversion.training.evaluate import final_metrics as final_metrics
from inversion.training.trainer import Trainer

Make = Callable[..., Trainer]
MakeRecorder = Callable[[], Any]
Script = Callable[[Sequence[float]], None]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Script:
    """``scripted([3, 2, 1])``: the validation losses of the epochs, whatever the model does."""

    def script(losses: Sequence[float]) -> None:
        rest = iter(losses)

        def scores(*_: Any, **__: Any) -> Scores:
            value = next(rest)
            return Scores(psnr=[100 - value], ssim=[0.5], mse=[value], loss_mse=[value])

        monkeypatch.setattr(evaluator, "evaluate", scores)

    return script


@pytest.mark.parametrize("decoder", decoders.names())
def test_a_decoder_learns_two_photographs(decoder: str, make_trainer: Make, recorder: MakeRecorder) -> None:
    told = recorder()
    make_trainer(callbacks=[told], decoder=decoder, lpips=False, train=("astronaut", "coffee"), epochs=60, lr=3e-3,
                 patience=60).fit()
    first, last = (sum(told.epochs[epoch]["train/mse"] for epoch in epochs) / 3
                   for epochs in ((1, 2, 3), (58, 59, 60)))
    assert last < 0.4 * first


def test_training_with_lpips_lowers_both_terms(make_trainer: Make, recorder: MakeRecorder) -> None:
    told = recorder()
    make_trainer(callbacks=[told], train=("astronaut", "coffee"), epochs=20, lr=3e-3, patience=60).fit()
    for term in ("train/mse", "train/lpips", "train/loss"):
        assert told.epochs[20][term] < 0.8 * told.epochs[1][term]


def test_an_epoch_tells_every_step_and_its_metrics_are_means_over_images(
        make_trainer: Make, recorder: MakeRecorder) -> None:
    told = recorder()
    make_trainer(callbacks=[told], epochs=2).fit()
    assert [step[:3] for step in told.steps] == [(epoch, step, 3) for epoch in (1, 2) for step in (1, 2, 3)]
    sizes = [2, 2, 1]
    for epoch in (1, 2):
        losses = [loss for number, _, _, loss in told.steps if number == epoch]
        metrics = told.epochs[epoch]
        mean = sum(size * loss for size, loss in zip(sizes, losses, strict=True)) / 5
        assert metrics["train/loss"] == pytest.approx(mean)
        assert metrics["train/loss"] == pytest.approx(0.5 * metrics["train/mse"] + 0.5 * metrics["train/lpips"])
        assert metrics["val/loss"] == pytest.approx(0.5 * metrics["val/mse"] + 0.5 * metrics["val/lpips"])
        assert set(metrics) == {"train/loss", "train/mse", "train/lpips", "val/loss", "val/mse", "val/lpips",
                                "val/psnr", "val/ssim", "lr", "images_per_second"}
        assert all(math.isfinite(value) for value in metrics.values())


def test_without_lpips_no_metric_speaks_of_it(make_trainer: Make, recorder: MakeRecorder) -> None:
    told = recorder()
    make_trainer(callbacks=[told], epochs=1, lpips=False).fit()
    assert not [name for name in told.epochs[1] if "lpips" in name]


def test_with_weight_0_lpips_is_scored_and_not_trained(make_trainer: Make, recorder: MakeRecorder) -> None:
    told = recorder()
    make_trainer(callbacks=[told], epochs=1, lpips_weight=0.0).fit()
    assert "train/lpips" not in told.epochs[1]
    assert told.epochs[1]["val/lpips"] > 0
    assert told.epochs[1]["val/loss"] == pytest.approx(0.5 * told.epochs[1]["val/mse"])


def test_features_are_measured_once_before_training(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=1)
    trainer.fit()
    features, = trainer.model.encode(from_stored(trainer.data.calibration))
    scale = trainer.model.learned_state()["scales.0.scale"].item()
    assert scale == pytest.approx(features.square().mean().sqrt().item(), rel=1e-5)


def test_the_best_epochs_weights_are_in_the_model_after_training(
        scripted: Script, make_trainer: Make, recorder: MakeRecorder) -> None:
    scripted([5, 3, 4, 4.5])
    told = recorder()
    trainer = make_trainer(callbacks=[told])
    progress = trainer.fit()
    assert (progress.best_epoch, progress.best_loss, progress.best_psnr, progress.epoch) == (2, 1.5, 97, 4)
    best, last = (load_checkpoint(trainer.folder / name) for name in (BEST, LAST))
    state = trainer.model.learned_state()
    assert all(torch.equal(value, best["model"][name]) for name, value in state.items())
    assert not all(torch.equal(value, last["model"][name]) for name, value in state.items())
    assert (best["epoch"], best["metrics"]["val/loss"]) == (2, 1.5)
    assert all(torch.equal(value, best["model"][name]) for name, value in last["best_model"].items())


def test_an_equal_loss_is_not_better(scripted: Script, make_trainer: Make) -> None:
    scripted([5, 3, 3, 3])
    assert make_trainer().fit().best_epoch == 2


def test_training_stops_early_when_patience_ends(
        scripted: Script, make_trainer: Make, recorder: MakeRecorder) -> None:
    scripted([5, 4, 6, 6, 3, 7, 7, 7, 1, 1])
    told = recorder()
    progress = make_trainer(callbacks=[told], epochs=10, patience=3).fit()
    assert (progress.epoch, progress.best_epoch) == (8, 5)
    assert told.checkpoints[-1] == ([LAST, BEST], True)
    assert [final for _, final in told.checkpoints] == [False] * 7 + [True]


def test_the_rate_is_cut_on_a_plateau_down_to_its_floor(
        scripted: Script, make_trainer: Make, recorder: MakeRecorder) -> None:
    scripted([5, 4, 4, 4, 4, 4, 4, 4, 4, 4])
    told = recorder()
    make_trainer(callbacks=[told], epochs=10, lr=1e-3, lr_patience=1, lr_factor=0.1, min_lr=5e-5).fit()
    rates = [told.epochs[epoch]["lr"] for epoch in range(1, 11)]
    assert rates == pytest.approx([1e-3] * 4 + [1e-4] * 2 + [5e-5] * 4)


def test_crops_differ_by_epoch(make_trainer: Make) -> None:
    trainer = make_trainer(epochs=2)
    seen: list[torch.Tensor] = []
    trainer.model.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone()) if module.training else None)
    trainer.fit()
    one, other = torch.cat(seen[:3]), torch.cat(seen[3:])
    assert one.shape == other.shape == (5, 3, 32, 32)
    assert not any(torch.equal(crop, again) for crop in one for again in other)
    assert 0 <= one.min() < one.max() <= 1


def test_pictures_are_made_before_training_of_the_first_and_of_about_ten_epochs(
        scripted: Script, make_trainer: Make, recorder: MakeRecorder) -> None:
    scripted([5.0] * 40)
    told = recorder()
    trainer = make_trainer(callbacks=[told], epochs=40, patience=40, lpips=False)
    trainer.fit()
    assert sorted(told.pictures) == [0, 1, *range(4, 41, 4)]
    pictures = told.pictures[4]
    assert [picture.name for picture in pictures] == ["grace_hopper", "rocket", "chelsea"]
    for picture, stored in zip(pictures, trainer.data.validation, strict=True):
        assert np.array_equal(picture.original, stored.numpy())
        assert (picture.reconstruction.shape, picture.reconstruction.dtype) == ((32, 32, 3), np.uint8)


@pytest.mark.parametrize("protocol", ["image", "published"])
def test_both_protocols_train_and_are_scored_against_their_own_target(
        protocol: Any, make_trainer: Make, recorder: MakeRecorder) -> None:
    told = recorder()
    trainer = make_trainer(callbacks=[told], protocol=protocol, epochs=2)
    trainer.fit()
    images = from_stored(trainer.data.validation)
    targets = make_targets(images, protocol)
    with torch.no_grad():
        reconstructions = trainer.model.eval()(images)
    scores = evaluate(trainer.model, trainer.data.validation, trainer.loss, trainer.engine)
    assert scores.psnr == pytest.approx(psnr(reconstructions, targets.score).tolist(), rel=1e-5)
    assert scores.mean("loss_mse") == pytest.approx((reconstructions - targets.loss).square().mean().item(), rel=1e-5)
    lpips = trainer.loss.lpips
    assert lpips is not None
    assert scores.lpips == pytest.approx(lpips(reconstructions, targets.score).tolist(), rel=1e-4)
    assert scores.loss_lpips == pytest.approx(lpips(reconstructions, targets.loss).tolist(), rel=1e-4)
    assert (scores.loss_mse == scores.mse) == (protocol == "image")
    assert scores.loss(trainer.loss) == pytest.approx(
        0.5 * scores.mean("loss_mse") + 0.5 * scores.mean("loss_lpips"), rel=1e-6)
    assert told.epochs[trainer.state.best_epoch]["val/psnr"] == pytest.approx(scores.mean("psnr"))


def test_bf16_on_the_cpu_trains_close_to_fp32(make_trainer: Make, recorder: MakeRecorder) -> None:
    exact, rounded = recorder(), recorder()
    make_trainer("exact", [exact], epochs=3).fit()
    trainer = make_trainer("rounded", [rounded], epochs=3, precision="bf16")
    trainer.fit()
    assert rounded.epochs[3]["val/psnr"] != exact.epochs[3]["val/psnr"]
    assert rounded.epochs[3]["val/psnr"] == pytest.approx(exact.epochs[3]["val/psnr"], abs=0.5)
    assert rounded.epochs[3]["val/loss"] == pytest.approx(exact.epochs[3]["val/loss"], rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())


def test_scores_do_not_depend_on_how_images_fall_into_batches(
        make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer()
    together = evaluate(trainer.model, trainer.data.validation, trainer.loss, trainer.engine)
    monkeypatch.setattr("inversion.training.evaluate.BATCH", 2)
    in_two = evaluate(trainer.model, trainer.data.validation, trainer.loss, trainer.engine)
    for name in ("psnr", "ssim", "mse", "lpips"):
        assert getattr(in_two, name) == pytest.approx(getattr(together, name), rel=1e-4)
        assert len(getattr(in_two, name)) == 3


def test_evaluation_looks_for_a_stop_before_each_batch(
        make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.training.evaluate.BATCH", 1)
    trainer = make_trainer()
    looks: list[None] = []
    evaluate(trainer.model, trainer.data.validation, trainer.loss, trainer.engine,
             before_batch=lambda: looks.append(None))
    assert len(looks) == 3


def test_evaluation_does_not_train(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.model.train()
    before = {name: value.clone() for name, value in trainer.model.learned_state().items()}
    evaluate(trainer.model, trainer.data.validation, trainer.loss, trainer.engine)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.learned_state().items())


def test_test_metrics_are_means_and_population_standard_deviations() -> None:
    scores = Scores(psnr=[10, 20], ssim=[0.5, 0.7], mse=[1, 1], lpips=[0.1, 0.3], forward_seconds=0.5, seconds=2)
    metrics = final_metrics(scores)
    assert metrics == pytest.approx({
        "test/psnr": 15, "test/psnr_std": 5, "test/ssim": 0.6, "test/ssim_std": 0.1, "test/lpips": 0.2,
        "test/lpips_std": 0.1, "eval_seconds": 2, "inference_ms_per_image": 250})
    scores.lpips = []
    assert not [name for name in final_metrics(scores) if "lpips" in name]
