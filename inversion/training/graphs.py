"""A training step's kernels as one CUDA graph: with small batches, launching them takes longer than they do.

Asked for by ``INVERSION_CUDA_GRAPHS=1`` in the environment, since no machine of ours could run it: its tests run where
CUDA is. See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inversion.losses.reconstruction import LossTerms, ReconstructionLoss
from inversion.models.model import InversionModel
from inversion.training.cotraining import Company, Position
from inversion.training.device import Engine
from inversion.training.gradients import BatchGradients

WARM_UPS = 3
"""Passes before the capture, in which libraries choose their algorithms and take their workspaces."""


_logger = logging.getLogger(__name__)


def graphs_are_asked_for(device: torch.device) -> bool:
    """Whether steps are to be captured: on CUDA, and by ``INVERSION_CUDA_GRAPHS=1``."""
    return device.type == "cuda" and os.environ.get("INVERSION_CUDA_GRAPHS") == "1"


@dataclass(frozen=True)
class Captured:
    """The pass over batches of one shape; everything in it stays where it is in memory."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    terms: LossTerms
    gradients: list[Tensor | None]

    def replay(self, images: Tensor, parameters: Sequence[nn.Parameter]) -> LossTerms:
        """Loss terms of these images; the gradients are the parameters' afterwards."""
        self.images.copy_(images)
        self.graph.replay()
        for parameter, gradient in zip(parameters, self.gradients, strict=True):
            parameter.grad = gradient
        total, mse, lpips = self.terms
        return LossTerms(total.clone(), mse.clone(), None if lpips is None else lpips.clone())


class GraphedGradients(BatchGradients):
    """The same gradients, captured once for each shape of a batch and replayed from then on.

    Parts of a batch (memory was short) and batches of runs side by side are computed as ever.
    """

    def __init__(self, model: InversionModel, loss: ReconstructionLoss, engine: Engine,
                 optimizer: torch.optim.Optimizer) -> None:
        super().__init__(model, loss, engine, optimizer)
        self._captured: dict[torch.Size, Captured] = {}
        self._stream = torch.cuda.Stream(engine.device)
        self._pool = torch.cuda.graph_pool_handle()
        self._gave_up = False

    def of(self, images: Tensor, size: int, before: Sequence[Tensor], position: Position,
           company: Company) -> LossTerms:
        if self._gave_up or size < len(images) or company.size > 1:
            return super().of(images, size, before, position, company)
        with torch.cuda.device(self.engine.device):
            try:
                captured = self._captured.get(images.shape) or self._capture(images, before, position, company)
            except RuntimeError as error:  # memory that ran out too: without a graph there may be enough
                self._give_up(error, before)
                return super().of(images, size, before, position, company)
            return captured.replay(images, self.model.trainable())

    def _capture(self, images: Tensor, before: Sequence[Tensor], position: Position, company: Company) -> Captured:
        images, here = images.clone(), torch.cuda.current_stream()
        self._stream.wait_stream(here)
        try:
            with torch.cuda.stream(self._stream):
                for _ in range(WARM_UPS):
                    super().of(images, len(images), before, position, company)
                self.put_back(before)
                self.optimizer.zero_grad(set_to_none=True)  # the captured pass writes gradients and adds to none
                graph = torch.cuda.CUDAGraph()
                torch.cuda.synchronize()
                graph.capture_begin(pool=self._pool)
                try:
                    terms = self.backward(images, 1.0, (*position, len(images), 0), company)
                finally:
                    graph.capture_end()
        finally:
            here.wait_stream(self._stream)
        gradients = [parameter.grad for parameter in self.model.trainable()]
        self._captured[images.shape] = captured = Captured(graph, images, terms, gradients)
        return captured

    def _give_up(self, error: RuntimeError, before: Sequence[Tensor]) -> None:
        _logger.warning("a step could not be captured as a CUDA graph (%s): from here on they are computed without one",
                        str(error).partition("\n")[0])
        self._gave_up = True
        self._captured.clear()
        self.put_back(before)
        self.optimizer.zero_grad(set_to_none=True)
