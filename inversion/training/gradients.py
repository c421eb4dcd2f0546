"""The gradients of a batch's mean loss: in parts, where the whole batch does not fit into the device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from inversion.errors import InversionError
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss, make_targets
from inversion.models.model import InversionModel
from inversion.training.cotraining import CoTrainingGroup, Position
from inversion.training.device import Engine
from inversion.training.memory import split_evenly


class BatchGradients:
    """Computes a batch's loss and puts its gradients into the model's trained parameters.

    ``statistics`` are BatchNorm's buffers, which the forward pass of a training step changes.
    """

    def __init__(self, model: InversionModel, loss: ReconstructionLoss, engine: Engine,
                 optimizer: torch.optim.Optimizer, group: CoTrainingGroup) -> None:
        self.model = model
        self.loss = loss
        self.engine = engine
        self.optimizer = optimizer
        self.group = group
        self.saved_seconds = 0.0
        learned = model.learned_state()
        self.statistics = [buffer for name, buffer in model.named_buffers() if name in learned]

    def of(self, images: Tensor, size: int, before: Sequence[Tensor], position: Position) -> LossTerms:
        """Loss terms of images ``(B, 3, S, S)``, computed with at most ``size`` of them at a time.

        When memory runs out, there are no gradients, and the statistics are those from ``before`` this step.

        Raises:
            RuntimeError: memory ran out, or what PyTorch has to say.
            InversionError: a single image with a 1×1 map is left to BatchNorm.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parts = split_evenly(images, size)
        shares = [len(part) / len(images) for part in parts]
        try:
            terms = [self.backward(part, share, (*position, size, place))
                     for place, (part, share) in enumerate(zip(parts, shares, strict=True))]
        except RuntimeError:  # most likely out of memory; the caller knows
            self.optimizer.zero_grad(set_to_none=True)
            self.put_back(before)
            self.group.clear()
            raise
        return _weighted_mean(terms, shares)

    def put_back(self, before: Sequence[Tensor]) -> None:
        """Makes the statistics what they were."""
        for buffer, good in zip(self.statistics, before, strict=True):
            buffer.copy_(good)

    def backward(self, images: Tensor, share: float, which: tuple[int, ...]) -> LossTerms:
        """Adds the gradients of these images' mean loss, times their share of the batch.

        ``which`` identifies the images (epoch, step, size and place of the part): the group shares by it what does not
        depend on the decoder.
        """
        targets, lpips = make_targets(images, self.engine.protocol), self.loss.used_lpips
        with self.engine.autocast():
            features = self._shared("features", which, lambda: self.model.encode(images))
            target_features = (self._shared("target features", which, lambda: lpips.target_features(targets.loss))
                               if lpips else None)
            made = self._reconstruct(images, features, position=which)
            terms: LossTerms = self.loss(made, targets.loss, target_features)
        terms.total.backward(torch.full_like(terms.total, share))
        perceptual = None if terms.lpips is None else terms.lpips.detach()
        return LossTerms(terms.total.detach(), terms.mse.detach(), perceptual)

    def _shared(self, name: str, which: tuple[int, ...], compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        epoch, step, *_ = which
        tensors, seconds = self.group.get((epoch, step), (name, which), compute)
        self.saved_seconds += seconds
        return tensors

    def take_saved_seconds(self) -> float:
        """Seconds that sharing has saved since the last call: what the run would have taken longer alone."""
        seconds, self.saved_seconds = self.saved_seconds, 0.0
        return seconds

    def _reconstruct(self, images: Tensor, features: Sequence[Tensor], position: tuple[int, ...]) -> Tensor:
        """The model's output; what BatchNorm cannot train on is told in the run's own terms."""
        try:
            reconstructions: Tensor = self.model(images, features)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InversionError(
                f"step {position[1] + 1} of epoch {position[0] + 1}: BatchNorm needs more than one value a channel, "
                "and this is a single image with a 1×1 map. Try a larger image_size, an earlier layer, another "
                "decoder, or a batch_size that leaves no single image over."
            ) from error
        return reconstructions


def _weighted_mean(terms: Sequence[LossTerms], shares: Sequence[float]) -> LossTerms:
    """The terms of a batch out of those of its parts, whose ``shares`` of its images add up to 1."""
    if len(terms) == 1:
        return terms[0]

    def mean(values: Iterable[Tensor]) -> Tensor:
        return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum()

    perceptual = [part.lpips for part in terms if part.lpips is not None]
    return LossTerms(mean(part.total for part in terms), mean(part.mse for part in terms),
                     mean(perceptual) if perceptual else None)
