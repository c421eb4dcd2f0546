"""Where the features of a training step come from: the encoder, or for fixed crops the folder of stored features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from inversion.data.batches import TrainBatches
from inversion.images import from_stored
from inversion.losses.reconstruction import ReconstructionLoss, make_targets
from inversion.models.encoders.build import Encoder, encode
from inversion.models.model import InversionModel
from inversion.progress import Progress
from inversion.training.device import Engine
from inversion.training.feature_folder import FeatureFolder, FixedFeatures


class StepFeatures:
    """Computes the features of a training step; called within autocast.

    ``which`` identifies the images by epoch, step (both from 0), micro-batch and the index of the first image in the
    batch.
    """

    def __init__(self, model: InversionModel, loss: ReconstructionLoss) -> None:
        self.model = model
        self.lpips = loss.used_lpips

    def of_images(self, images: Tensor, seeds: Sequence[int], which: tuple[int, ...]) -> list[Tensor]:
        """The features ``(B, Ci, hi, wi)`` of each encoder; ``seeds`` are those of noise, one per image."""
        return self.model.encode(images, seeds)

    def of_targets(self, targets: Tensor, which: tuple[int, ...]) -> list[Tensor]:
        """LPIPS's features of the loss targets; none if the loss has no LPIPS."""
        return [] if self.lpips is None else self.lpips.target_features(targets)


class StoredStepFeatures(StepFeatures):
    """Reads the features of a step with fixed crops from the folder, rounded to bfloat16.

    Those that are not there are computed first. Features with random noise are computed in every step.

    Args:
        model: the calibrated model.
        loss: the loss, for the targets of LPIPS.
        engine: device, precision and protocol.
        batches: batches of fixed crops.
        folder: the stored features.
        batch_size: how many crops to compute at a time.
        progress: called with the number of crops done. It may raise.

    Raises:
        NoRoomError: the disk is full.
    """

    def __init__(self, model: InversionModel, loss: ReconstructionLoss, engine: Engine, batches: TrainBatches,
                 folder: FeatureFolder, batch_size: int, progress: Progress) -> None:
        super().__init__(model, loss)
        self._engine = engine
        self._batches = batches
        self._numbers_of = lru_cache(maxsize=1)(batches.fixed_of)

        def load(part: Mapping[str, Any], compute: Callable[[Tensor], list[Tensor]]) -> FixedFeatures:
            def of_crops(numbers: Sequence[int]) -> list[Tensor]:
                with engine.autocast():
                    return compute(from_stored(engine.send(batches.cut_fixed(numbers))))

            return folder.load(part, batches.fixed_crops, of_crops, batch_size, progress)

        def encoding(encoder: Encoder) -> Callable[[Tensor], list[Tensor]]:
            return lambda images: [encoder(images)]

        self._encoders = [None if part is None else load(part, encoding(encoder))
                          for part, encoder in zip(folder.encoders, model.frozen, strict=True)]
        self._targets = None if self.lpips is None or folder.lpips is None else load(
            folder.lpips, lambda images: super(StoredStepFeatures, self).of_targets(
                make_targets(images, engine.protocol).loss, ()))

    def of_images(self, images: Tensor, seeds: Sequence[int], which: tuple[int, ...]) -> list[Tensor]:
        pairs = list(zip(self.model.frozen, self._encoders, strict=True))
        computed = iter(encode([encoder for encoder, stored in pairs if stored is None], images, seeds))
        return [next(computed) if stored is None else self._read(stored, len(images), which)[0] for _, stored in pairs]

    def of_targets(self, targets: Tensor, which: tuple[int, ...]) -> list[Tensor]:
        return [] if self._targets is None else self._read(self._targets, len(targets), which)

    def _read(self, stored: FixedFeatures, count: int, which: tuple[int, ...]) -> list[Tensor]:
        epoch, step, _, first = which
        start = step * self._batches.batch_size + first
        dtype = torch.bfloat16 if self._engine.precision == "bf16" else torch.float32
        return stored.of(self._numbers_of(epoch + 1)[start:start + count], self._engine.device, dtype)
