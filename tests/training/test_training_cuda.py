"""What is different on a GPU: these run where there is one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inversion.data.batches import TrainBatches
from inversion.errors import NonFiniteError
from inversion.models.decoders import decoders
from inversion.training.checkpoint import LAST, load_checkpoint
from inversion.training.cotraining import run_alone
from inversion.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Make = Callable[..., Trainer]


def on_cuda(make: Make, folder: str = "run", **values: object) -> Trainer:
    trainer = make(folder, device="cuda", **values)
    trainer.data.batches.move_to(torch.device("cuda"))
    return trainer


@pytest.mark.parametrize("decoder", decoders.names())
def test_the_host_does_not_wait_for_the_device_inside_an_epoch(decoder: str, make_trainer: Make) -> None:
    trainer = on_cuda(make_trainer, decoder=decoder)
    trainer._calibrate()
    run_alone(trainer._train_epoch())  # what is made once may wait
    trainer.state.step = trainer.state.images = 0
    synchronize, waited = trainer._synchronize, []

    def synchronize_and_allow() -> None:
        torch.cuda.set_sync_debug_mode("default")
        waited.append(trainer.state.step)
        synchronize()

    trainer._synchronize = synchronize_and_allow  # type: ignore[method-assign]
    batches = iter(list(trainer.data.batches.epoch(1)))  # drawn before: draws are made on the host
    trainer.data.batches.epoch = lambda epoch, start=0: batches  # type: ignore[method-assign]
    torch.cuda.set_sync_debug_mode("error")
    try:
        run_alone(trainer._train_epoch())
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert waited == [3]


def test_numbers_that_are_not_finite_are_found_at_the_end_of_the_epoch_with_the_last_good_weights(
        make_trainer: Make) -> None:
    good, trainer = on_cuda(make_trainer, "good"), on_cuda(make_trainer)
    steps = 0

    def ruin(_: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        nonlocal steps
        steps += torch.is_grad_enabled()
        if steps == 2:
            inputs[0][0, 0, 5, 5] = torch.nan

    handle = trainer.model.frozen[0].register_forward_pre_hook(ruin)
    with pytest.raises(NonFiniteError, match=r"^step 2 of epoch 1: mse and lpips is not finite"):
        trainer.fit()
    handle.remove()
    content = load_checkpoint(trainer.folder / LAST)
    assert (content["progress"]["step"], content["progress"]["images"]) == (1, 2)
    good._calibrate()
    first = next(iter(good.data.batches.epoch(1)))
    good.model.train()
    good._update(first.permute(0, 3, 1, 2).float().div(255))
    for name, value in good.model.learned_state().items():
        torch.testing.assert_close(content["model"][name], value.cpu(), atol=1e-5, rtol=1e-4)


def test_batches_cut_on_the_gpu_are_those_cut_on_the_host(make_trainer: Make) -> None:
    here, there = make_trainer("here").data.batches, make_trainer("there").data.batches
    assert isinstance(here, TrainBatches)
    there.move_to(torch.device("cuda"))
    for one, other in zip(here.epoch(1), there.epoch(1), strict=True):
        assert other.is_cuda
        assert torch.equal(one, other.cpu())
