"""Where a run stands."""

from __future__ import annotations

import math

import pytest

from inversion.training.state import TrainingState


def test_a_finished_epoch_leaves_nothing_to_the_next() -> None:
    progress = TrainingState(step=2, images=6, loss_sum=12.0, mse_sum=4.0, lpips_sum=8.0, seconds_in_epoch=1.0)
    assert progress.finish_epoch(0.5, 20.0, 0.4)
    assert (progress.epoch, progress.step, progress.images) == (1, 0, 0)
    assert (progress.loss_sum, progress.mse_sum, progress.lpips_sum, progress.seconds_in_epoch) == (0, 0, 0, 0)


@pytest.mark.parametrize(("losses", "best"), [([3, 2, 1], 3), ([1, 2, 3], 1), ([2, 1, 1], 2), ([2, math.nan, 3], 1)])
def test_the_best_epoch_is_the_first_with_the_lowest_loss(losses: list[float], best: int) -> None:
    progress = TrainingState()
    better = [progress.finish_epoch(loss, 10 * loss, loss / 2) for loss in losses]
    assert (progress.best_epoch, progress.best_loss) == (best, losses[best - 1])
    assert (progress.best_psnr, progress.best_train_loss) == (10 * losses[best - 1], losses[best - 1] / 2)
    assert better[0]
    assert [index for index, flag in enumerate(better, start=1) if flag][-1] == best


@pytest.mark.parametrize(("epoch", "best", "done"), [
    (0, 0, False), (9, 9, False), (10, 10, True), (5, 3, False), (6, 3, True), (3, 0, True),
])
def test_a_run_is_done_after_all_epochs_or_when_patience_has_ended(epoch: int, best: int, done: bool) -> None:
    assert TrainingState(epoch=epoch, best_epoch=best).is_done(epochs=10, patience=3) == done


def test_progress_comes_back_from_plain_data() -> None:
    state = TrainingState(epoch=3, step=2, loss_sum=1.5, best_epoch=1, last_metrics={"val/loss": 0.1}, best_psnr=20.0)
    assert TrainingState(**state.to_dict()) == state
