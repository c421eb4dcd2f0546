"""One training step: the gradients of a batch's mean loss, and the check that they are finite.

A batch that does not fit into the device's memory is computed in parts, whose gradients are accumulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


@dataclass(frozen=True)
class Fault:
    """The first step whose numbers were not finite, counted from 1, and what of it was not."""

    step: int
    what: str


class FiniteCheck:
    """Keeps a step with a loss or gradient that is not finite, and every step after it, from changing anything.

    The optimizer, which has to be a fused one, leaves weights and its own state alone where ``found_inf`` says so, as
    with a gradient scaler; BatchNorm's statistics are put back. So the state is that of the last good step, whenever
    the host comes to read what happened.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter],
                 statistics: Sequence[Tensor], device: torch.device) -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self._statistics = statistics
        self._fault = torch.zeros(4, dtype=torch.float64, device=device)

    @property
    def broken(self) -> Tensor:
        """Whether there was such a step: a tensor on the device."""
        return self._fault[0] > 0

    def look(self, step: int, terms: LossTerms, before: Sequence[Tensor]) -> None:
        """After the backward pass of a step; ``before`` are BatchNorm's statistics from before its forward pass.

        Looks at the gradients too: a finite loss can have a NaN gradient, and one step with it ruins the run.
        """
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        perceptual = torch.zeros_like(terms.mse) if terms.lpips is None else terms.lpips
        values = torch.stack([terms.total, terms.mse, perceptual, norm.to(terms.mse.dtype)]).isfinite().logical_not()
        found = torch.stack([(values[0] | values[3]).double(), torch.full_like(self._fault[0], step),
                             values[1].double(), values[2].double()])
        self._fault = torch.where(self.broken, self._fault, found)
        broken = self.broken
        for buffer, good in zip(self._statistics, before, strict=True):
            buffer.copy_(torch.where(broken, good, buffer))
        self._optimizer.found_inf = broken.float()  # type: ignore[attr-defined]

    def read(self) -> Fault | None:
        """What happened, or None; waits for the device. The gradients named are those of the last step."""
        broken, step, mse, lpips = self._fault.tolist()
        if not broken:
            return None
        what = [name for name, bad in (("mse", mse), ("lpips", lpips)) if bad]
        what = what or [f"gradient of {name}" for name, parameter in self._parameters.items()
                        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()][:1]
        return Fault(int(step), " and ".join(what) or "the gradient norm")
