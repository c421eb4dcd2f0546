"""One training step: the gradients of a batch's mean loss, and the check that they are finite.

A batch that does not fit into the device's memory is computed in parts, whose gradients are accumulated.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inversion.errors import InversionError
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss, make_targets
from inversion.models.model import InversionModel
from inversion.models.modifiers._layers import step_seeds
from inversion.training.cotraining import CoTrainingGroup, Position
from inversion.training.device import Engine
from inversion.training.memory import split_evenly
from inversion.training.step_features import StepFeatures


class BatchGradients:
    """Computes a batch's loss and the gradients of the model's trained parameters.

    Args:
        model: the model, in train mode when gradients are computed.
        loss: the training loss.
        engine: device, precision and protocol.
        optimizer: its gradients are cleared first.
        group: the runs with which features are shared.
        seed: the run's seed, for the noise of modifiers.

    Attributes:
        features: where the features of a step come from.
        statistics: BatchNorm's buffers, which the forward pass of a training step updates.
    """

    def __init__(self, model: InversionModel, loss: ReconstructionLoss, engine: Engine,
                 optimizer: torch.optim.Optimizer, group: CoTrainingGroup, seed: int) -> None:
        self.seed = seed
        self.model = model
        self.loss = loss
        self.engine = engine
        self.optimizer = optimizer
        self.group = group
        self.saved_seconds = 0.0
        self.features = StepFeatures(model, loss)
        learned = model.learned_state()
        self.statistics = [buffer for name, buffer in model.named_buffers() if name in learned]

    def of(self, images: Tensor, size: int, before: Sequence[Tensor], position: Position) -> LossTerms:
        """Loss terms of images ``(B, 3, S, S)``; accumulates their gradients.

        Args:
            images: the batch.
            size: the micro-batch: how many images to compute at a time.
            before: BatchNorm's statistics from before this step, which are restored if memory runs out.
            position: epoch and step, which identify the batch in the group.

        Raises:
            RuntimeError: memory ran out, or another error of PyTorch; the gradients are cleared.
            InversionError: a batch of one image has a 1×1 feature map, on which BatchNorm cannot train.
        """
        self.optimizer.zero_grad(set_to_none=True)
        parts = split_evenly(images, size)
        shares = [len(part) / len(images) for part in parts]
        try:
            terms = [self.backward(part, share, (*position, size, first))
                     for part, share, first in zip(parts, shares, _firsts(parts), strict=True)]
        except RuntimeError:  # most likely out of memory: the caller examines it
            self.optimizer.zero_grad(set_to_none=True)
            self.restore(before)
            self.group.clear()
            raise
        return _weighted_mean(terms, shares)

    def restore(self, before: Sequence[Tensor]) -> None:
        """Restores the statistics."""
        for buffer, good in zip(self.statistics, before, strict=True):
            buffer.copy_(good)

    def backward(self, images: Tensor, share: float, which: tuple[int, ...]) -> LossTerms:
        """Adds the gradients of these images' mean loss, weighted with their share of the batch.

        ``which`` identifies the images by epoch, step, micro-batch and the index of the first one in the batch; runs of
        a group share under it what does not depend on the decoder.
        """
        epoch, step, _, first = which
        seeds = step_seeds(self.seed, epoch, step, first, len(images))
        targets = make_targets(images, self.engine.protocol)
        with self.engine.autocast():
            features = self._shared("features", which, lambda: self.features.of_images(images, seeds, which))
            target_features = (self._shared("target features", which,
                                            lambda: self.features.of_targets(targets.loss, which))
                               if self.loss.used_lpips else None)
            reconstructions = self._reconstruct(images, features, position=which)
            terms: LossTerms = self.loss(reconstructions, targets.loss, target_features)
        terms.total.backward(torch.full_like(terms.total, share))
        return LossTerms(terms.total.detach(), terms.mse.detach(), *map(_detached, terms.further))

    def _shared(self, name: str, which: tuple[int, ...], compute: Callable[[], list[Tensor]]) -> list[Tensor]:
        epoch, step, *_ = which
        tensors, seconds = self.group.get((epoch, step), (name, which), compute)
        self.saved_seconds += seconds
        return tensors

    def take_saved_seconds(self) -> float:
        """Seconds that sharing has saved since the last call; a run that trains alone takes that much longer."""
        seconds, self.saved_seconds = self.saved_seconds, 0.0
        return seconds

    def _reconstruct(self, images: Tensor, features: Sequence[Tensor], position: tuple[int, ...]) -> Tensor:
        """The model's output.

        Raises:
            InversionError: BatchNorm cannot train on the batch; PyTorch's own message does not name the parameters.
        """
        try:
            reconstructions: Tensor = self.model(images, features)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise InversionError(
                f"step {position[1] + 1} of epoch {position[0] + 1}: BatchNorm needs more than one value per channel, "
                "and this batch is a single image with a 1×1 feature map. Try a larger image_size, an earlier layer, "
                "another decoder, or a batch_size whose last batch has more than one image."
            ) from error
        return reconstructions


def _firsts(parts: Sequence[Tensor]) -> list[int]:
    """The index of each part's first image in the batch."""
    return list(itertools.accumulate(map(len, parts[:-1]), initial=0))


def _weighted_mean(terms: Sequence[LossTerms], shares: Sequence[float]) -> LossTerms:
    """The loss terms of a batch from those of its parts; ``shares`` are the parts' shares of the images."""
    if len(terms) == 1:
        return terms[0]

    def mean(values: Iterable[Tensor]) -> Tensor:
        return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum()

    def mean_if_on(values: Sequence[Tensor | None]) -> Tensor | None:
        known = [value for value in values if value is not None]
        return mean(known) if known else None

    further = zip(*(part.further for part in terms), strict=True)
    return LossTerms(mean(part.total for part in terms), mean(part.mse for part in terms), *map(mean_if_on, further))


def _detached(value: Tensor | None) -> Tensor | None:
    return None if value is None else value.detach()


@dataclass(frozen=True)
class Fault:
    """The first step that was not finite, counted from 1, and which of its values was not."""

    step: int
    what: str


class FiniteCheck:
    """Prevents a step whose loss or gradient is not finite, and all later steps, from changing the state.

    The optimizer must be a fused one: it skips the update if ``found_inf`` is set, as for a gradient scaler.
    BatchNorm's statistics are restored. So whenever the host reads the result, the state is that of the last finite
    step.

    Args:
        optimizer: the fused optimizer of the run.
        parameters: the trained parameters by name.
        statistics: BatchNorm's buffers.
        device: the device of the run.
        own: the name of the user's own loss term, if there is one.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter],
                 statistics: Sequence[Tensor], device: torch.device, own: str = "") -> None:
        self._optimizer = optimizer
        self._parameters = parameters
        self._statistics = statistics
        self._own = own
        self._fault = torch.zeros(5, dtype=torch.float64, device=device)

    @property
    def failed(self) -> Tensor:
        """Whether a step was not finite: a tensor on the device."""
        return self._fault[0] > 0

    def check(self, step: int, terms: LossTerms, before: Sequence[Tensor]) -> Tensor:
        """Checks a step after its backward pass, without waiting for the device; returns the norm of the gradients.

        The gradients are checked too: a finite loss can have a NaN gradient, and one step with it ruins the run.

        Args:
            step: the step, counted from 1.
            terms: its loss terms.
            before: BatchNorm's statistics from before its forward pass.
        """
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        total, *others = terms.values().isfinite().logical_not()
        found = torch.stack([(total | norm.isfinite().logical_not()).double(), torch.full_like(self._fault[0], step),
                             *(other.double() for other in others)])
        self._fault = torch.where(self.failed, self._fault, found)
        failed = self.failed
        for buffer, good in zip(self._statistics, before, strict=True):
            buffer.copy_(torch.where(failed, good, buffer))
        self._optimizer.found_inf = failed.float()  # type: ignore[attr-defined]
        return norm

    def read(self) -> Fault | None:
        """The fault, or None; waits for the device. A gradient that it names is one of the latest step."""
        failed, step, *terms = self._fault.tolist()
        if not failed:
            return None
        what = [name for name, bad in zip(("mse", "lpips", self._own), terms, strict=True) if bad]
        what = what or [f"gradient of {name}" for name, parameter in self._parameters.items()
                        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()][:1]
        return Fault(int(step), " and ".join(what) or "the gradient norm")
