"""Whether the fast ways cost quality: the same training in a plain loop, and in ours in fp32 and in bf16.

All three start from the same weights and see the same crops in the same order, with the same learning rate throughout,
and are scored with the weights of the epoch of the lowest validation loss. The plain loop is fp32 in PyTorch's default
layout, with the ``lpips`` package and Adam as they are, so that it differs from ours in fp32 by everything that changes
arithmetic but the precision: channels-last, LPIPS's blocks and its gradient by hand, the bias by a sum, fused Adam.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import plain
from benchmarks.prepared import prepare_run, trainer_of
from inversion import metrics
from inversion.images import from_stored
from inversion.runs.prepare import crops_of_test_set, score_test_set
from inversion.training.trainer import Trainer

TRAINING = {"image_size": 128, "epochs": 20, "lr": 1e-3, "lr_patience": 1000}


DECODERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "transposed_conv": plain.make_decoder, "attention": plain.AttentionDecoder}


def psnr_by(how: str, folder: Path, encoder: str, decoder: str, seed: int) -> float:
    """Mean test PSNR in dB after training by ``plain``, ``fp32`` or ``bf16``.

    The plain loop has two decoders: transposed_conv, which is ours, and the published design of attention, which is not
    and starts with weights of its own.
    """
    precision = "bf16" if how == "bf16" else "fp32"
    prepared = prepare_run(folder, encoder=encoder, decoder=decoder, seed=seed, precision=precision, **TRAINING)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(prepared, scratch)
        if how == "plain":
            return _plain_psnr(trainer, encoder, folder / "alexnet.pth", crops_of_test_set(prepared))
        trainer.fit()
        return score_test_set(prepared, trainer).mean("psnr")


class _SameStart(plain.Plain):
    """The plain loop around the trainer's encoder and a decoder that starts with the trainer's weights."""

    def __init__(self, trainer: Trainer, encoder: str, alexnet: Path) -> None:
        trainer._calibrate()
        # not a copy: torch.fx puts the copy of a cut encoder into training mode
        self.model = trainer.model.to(memory_format=torch.contiguous_format)
        shape = self.model.frozen[0].feature_shape
        decoder = DECODERS[trainer.config.decoder](shape.channels, shape.height, trainer.config.image_size)
        if trainer.config.decoder == "transposed_conv":
            with torch.no_grad():
                for mine, theirs in zip(decoder.parameters(), self.model.decoder.parameters(), strict=True):
                    mine.copy_(theirs)
        super().__init__(encoder, alexnet, decoder)
        self.optimizer.param_groups[0]["lr"] = trainer.config.lr

    def reconstruct(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.model.scales[0](self.model.encode(images)[0])
        result: Tensor = self.decoder(features.contiguous())
        return result


def _plain_psnr(trainer: Trainer, encoder: str, alexnet: Path, test: Tensor) -> float:
    run, best = _SameStart(trainer, encoder, alexnet), float("inf")
    state: dict[str, Tensor] = {}
    for epoch in range(1, trainer.config.epochs + 1):
        run.decoder.train()
        for stored in trainer.data.batches.epoch(epoch):
            run.step(_images(stored))
        run.decoder.eval()
        with torch.no_grad():
            loss = sum(run.loss(batch).item() * len(batch) for batch in _images(trainer.data.validation).split(4))
        if loss < best:
            best, state = loss, copy.deepcopy(run.decoder.state_dict())
    run.decoder.load_state_dict(state)
    return _mean_psnr(run, _images(test).split(4))


@torch.no_grad()
def _mean_psnr(run: plain.Plain, batches: Sequence[Tensor]) -> float:
    values = [metrics.psnr(run.reconstruct(images), images) for images in batches]
    return float(torch.cat(values).mean())


def _images(stored: Tensor) -> Tensor:
    return from_stored(stored).contiguous()
