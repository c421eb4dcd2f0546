"""Evaluating a model on stored crops: scores and pictures, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inversion.images import from_stored
from inversion.losses.reconstruction import ReconstructionLoss
from inversion.models.model import InversionModel
from inversion.training.callbacks import Picture
from inversion.training.device import Engine
from inversion.training.evaluate import BATCH, Scores, evaluate, no_batch_hook
from inversion.training.feature_cache import FeatureCache
from inversion.training.further_scores import FurtherScores
from inversion.training.memory import BatchSize


class Evaluator:
    """Evaluates one model. The model is in eval mode afterwards.

    Args:
        model: the model, on the engine's device.
        loss: gives the validation loss and has the LPIPS metric, if that is on.
        engine: device, precision and protocol.
        subject: what the images are, for the message if not even one fits into memory.
    """

    def __init__(self, model: InversionModel, loss: ReconstructionLoss, engine: Engine, subject: str) -> None:
        self.model = model
        self.loss = loss
        self.engine = engine
        self.batch = BatchSize(BATCH, subject)

    def score(self, crops: Tensor, before_batch: Callable[[], None] = lambda: None, cache: FeatureCache | None = None,
              on_batch: Callable[[Tensor, Tensor], None] = no_batch_hook,
              further: FurtherScores | None = None) -> Scores:
        """Scores of stored crops ``uint8 (N, S, S, 3)``.

        Args:
            crops: the crops.
            before_batch: called before each batch; what it raises ends the scoring.
            cache: a cache for these very crops, if they are scored more than once.
            on_batch: called with the images and the reconstructions of each batch.
            further: computes more scores.

        Raises:
            OutOfMemoryError: not even one image fits into the device's memory.
        """
        return evaluate(self.model, crops, self.loss, self.engine, before_batch, self.batch, cache, on_batch,
                        further)

    def score_with_pictures(self, crops: Tensor, names: Sequence[str], most: int,
                            before_batch: Callable[[], None] = lambda: None,
                            further: FurtherScores | None = None) -> tuple[Scores, list[Picture]]:
        """Scores of stored crops, and pictures of the first ``most`` of them, in one pass; see ``score``.

        Raises:
            OutOfMemoryError: not even one image fits into the device's memory.
        """
        pictures: list[Picture] = []

        def add_pictures(images: Tensor, reconstructions: Tensor) -> None:
            pictures.extend(map(Picture.of, names[len(pictures):most], images, reconstructions))

        return self.score(crops, before_batch, on_batch=add_pictures, further=further), pictures

    @torch.no_grad()
    def reconstruct(self, crops: Tensor, names: Sequence[str]) -> list[Picture]:
        """Stored crops ``uint8 (N, S, S, 3)`` with their reconstructions.

        Raises:
            OutOfMemoryError: not even one image fits into the device's memory.
        """
        self.model.eval()

        def pairs(stored: Tensor) -> list[tuple[Tensor, Tensor]]:
            images = from_stored(self.engine.send(stored))
            with self.engine.autocast():
                return list(zip(images, self.model(images).float(), strict=True))

        rows = [row for batch in self.batch.map(pairs, crops) for row in batch]
        return [Picture.of(name, *row) for name, row in zip(names, rows, strict=False)]
