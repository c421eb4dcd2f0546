"""The training loop: epochs of optimiser steps, validation, schedule, early stopping, checkpoints.

Everything random is drawn from the seed, the purpose and the epoch, and a checkpoint holds the position inside an
epoch, so a run that was stopped anywhere and resumed gives the same numbers, to the bit on a CPU, as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from inversion.config import RunConfig
from inversion.data.batches import TrainBatches
from inversion.errors import InterruptedRunError, NonFiniteError
from inversion.images import from_stored
from inversion.losses import LossTerms, ReconstructionLoss, make_targets
from inversion.model import InversionModel
from inversion.training.checkpoint import BEST, LAST, CheckpointError, load_checkpoint, save_checkpoint
from inversion.training.device import Engine
from inversion.training.evaluate import evaluate, validation_metrics
from inversion.training.interrupt import StopRequest
from inversion.training.listener import Listener, Picture
from inversion.training.measure import PeakMemory
from inversion.training.progress import Progress

CALIBRATION_IMAGES = 32
PICTURES = 4
SNAPSHOTS = 10
"""About how many times in a run pictures are made: they cost more than an epoch of numbers."""


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from; crops are stored pixels ``uint8 (N, S, S, 3)``."""

    batches: TrainBatches
    calibration: Tensor
    """centres of the first training images, on which features are measured before training"""
    validation: Tensor
    validation_names: Sequence[str]


class Trainer:
    """Trains the decoder (and fusion) of a model; ``fit`` may be called on a fresh or on a resumed trainer.

    ``digest`` identifies the configuration, so that a checkpoint of another one is refused.
    """

    def __init__(
        self,
        model: InversionModel,
        loss: ReconstructionLoss,
        data: TrainingData,
        config: RunConfig,
        engine: Engine,
        folder: Path,
        digest: str,
        listeners: Sequence[Listener] = (),
        stop: StopRequest | None = None,
    ) -> None:
        self.model = model.to(engine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss.to(engine.device)
        self.data = data
        self.config = config
        self.engine = engine
        self.folder = folder
        self.digest = digest
        self.listeners = listeners
        self.stop = stop or StopRequest()
        self.progress = Progress()
        self.best_state: dict[str, Tensor] = {}
        self.optimizer = torch.optim.Adam(model.trainable(), lr=config.lr)
        self.schedule = ReduceLROnPlateau(
            self.optimizer, factor=config.lr_factor, patience=config.lr_patience, min_lr=config.min_lr
        )
        learned = model.learned_state()
        self.statistics = [buffer for name, buffer in model.named_buffers() if name in learned]
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}

    def fit(self) -> Progress:
        """Trains until all epochs are done or patience ends, then puts the best epoch's weights into the model.

        Raises:
            NonFiniteError: a loss term or gradient is not finite; the weights of the last good step are saved.
            InterruptedRunError: a stop was asked for; the last checkpoint is the present state.
            CheckpointError: a checkpoint could not be written.
        """
        if self.progress.epoch == 0 and self.progress.step == 0:
            self._calibrate()
            self._tell_pictures()
        memory = PeakMemory(self.engine.device)
        while not self.progress.is_done(self.config.epochs, self.config.patience):
            self._train_epoch()
            self._close_epoch(memory)
        self.model.load_learned_state(self.best_state)
        return self.progress

    def resume(self, path: Path) -> None:
        """Continues from a ``last.pt`` of the same configuration.

        Raises:
            CheckpointError: the file cannot be read, or belongs to another configuration.
        """
        content = load_checkpoint(path)
        if content["digest"] != self.digest:
            raise CheckpointError(f"{path} belongs to configuration {content['digest']}, not to {self.digest}")
        self.model.load_learned_state(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.best_state = content["best_model"]
        self.progress = Progress(**content["progress"])
        if self.progress.epoch:  # the process may have died between saving this epoch and telling of it
            for listener in self.listeners:
                listener.on_epoch(self.progress.epoch, self.progress.last_metrics)

    def _calibrate(self) -> None:
        """Measures the features' scale; the model is in eval mode and no seed is involved."""
        stored = self.data.calibration.to(self.engine.device)
        with self.engine.autocast():
            self.model.calibrate([from_stored(part) for part in stored.split(self.config.batch_size)])

    def _train_epoch(self) -> None:
        epoch, steps = self.progress.epoch + 1, len(self.data.batches)
        self.model.train()
        for stored in self.data.batches.epoch(epoch, start=self.progress.step):
            started = time.perf_counter()
            images = from_stored(stored.to(self.engine.device, non_blocking=True))
            terms = self._step(images, epoch)
            loss, mse = terms.total.item(), terms.mse.item()
            self.progress.add_step(len(images), loss, mse, None if terms.lpips is None else terms.lpips.item())
            self.progress.seconds_in_epoch += time.perf_counter() - started
            for listener in self.listeners:
                listener.on_step(epoch, self.progress.step, steps, loss)
            self.stop_if_asked()

    def _step(self, images: Tensor, epoch: int) -> LossTerms:
        targets = make_targets(images, self.engine.protocol)
        statistics = [buffer.clone() for buffer in self.statistics]
        with self.engine.autocast():
            terms: LossTerms = self.loss(self.model(images), targets.loss)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        self._check_finite(terms, epoch, statistics)
        self.optimizer.step()
        return terms

    def _check_finite(self, terms: LossTerms, epoch: int, statistics: list[Tensor]) -> None:
        """Looks at the gradients too: a finite loss can have a NaN gradient, and one step with it ruins the run.

        ``statistics`` are BatchNorm's from before this step, whose forward pass has already moved them.
        """
        parameters = self.model.trainable()
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if torch.isfinite(terms.total) and torch.isfinite(norm):
            return
        values = {"mse": terms.mse, "lpips": terms.lpips}
        broken = [name for name, value in values.items() if value is not None and not torch.isfinite(value)]
        broken = broken or [f"gradient of {self.names[id(p)]}" for p in parameters
                            if p.grad is not None and not torch.isfinite(p.grad).all()][:1]
        for buffer, before in zip(self.statistics, statistics, strict=True):
            buffer.copy_(before)
        self._save()
        raise NonFiniteError(
            f"step {self.progress.step + 1} of epoch {epoch}: {' and '.join(broken) or 'the gradient norm'} is not "
            f"finite. Try a lower lr (now {self.optimizer.param_groups[0]['lr']:g}) or precision=fp32."
        )

    def _check_validation(self, loss: float) -> None:
        """The last step of an epoch can ruin the weights and no later step would tell."""
        if not math.isfinite(loss):
            raise NonFiniteError(f"validation after epoch {self.progress.epoch + 1}: val/loss is {loss}. "
                                 f"Try a lower lr (now {self.optimizer.param_groups[0]['lr']:g}) or precision=fp32.")

    def _close_epoch(self, memory: PeakMemory) -> None:
        progress = self.progress
        rate = self.optimizer.param_groups[0]["lr"]
        metrics = {"train/loss": progress.loss_sum / progress.images, "train/mse": progress.mse_sum / progress.images,
                   "lr": rate, "images_per_second": progress.images / max(progress.seconds_in_epoch, 1e-9)}
        if self.loss.lpips is not None and self.loss.lpips_weight:
            metrics["train/lpips"] = progress.lpips_sum / progress.images
        started = time.perf_counter()
        scores = evaluate(self.model, self.data.validation, self.loss, self.engine, between=self.stop_if_asked)
        metrics |= validation_metrics(scores, self.loss)
        validated = time.perf_counter() - started
        progress.validation_seconds += validated
        progress.train_seconds += progress.seconds_in_epoch + validated
        self._check_validation(metrics["val/loss"])
        progress.peak_memory_mb = max(progress.peak_memory_mb, memory.read_mb())
        progress.last_metrics = metrics
        if progress.finish_epoch(metrics["val/loss"], metrics["val/psnr"]):
            self.best_state = {name: value.cpu().clone() for name, value in self.model.learned_state().items()}
            save_checkpoint(self.folder / BEST, {"digest": self.digest, "epoch": progress.epoch,
                                                 "model": self.best_state, "metrics": metrics})
        self.schedule.step(metrics["val/loss"])
        self._save(final=progress.is_done(self.config.epochs, self.config.patience))
        self._tell_epoch(metrics)

    def _tell_epoch(self, metrics: dict[str, float]) -> None:
        epoch = self.progress.epoch
        for listener in self.listeners:
            listener.on_epoch(epoch, metrics)
        if epoch == 1 or epoch % max(1, self.config.epochs // SNAPSHOTS) == 0:
            self._tell_pictures()

    def _tell_pictures(self) -> None:
        pictures = self.reconstruct(self.data.validation[:PICTURES], self.data.validation_names)
        for listener in self.listeners:
            listener.on_pictures(self.progress.epoch, pictures)

    @torch.no_grad()
    def reconstruct(self, stored: Tensor, names: Sequence[str]) -> list[Picture]:
        """Stored crops ``uint8 (N, S, S, 3)`` beside their reconstructions; the model is in eval mode afterwards."""
        self.model.eval()
        images = from_stored(stored.to(self.engine.device))
        with self.engine.autocast():
            reconstructions = self.model(images).float()
        return [Picture(*row) for row in zip(names, images, reconstructions, strict=False)]

    def stop_if_asked(self) -> None:
        """Saves and ends the run if somebody asked for it; called where the state is consistent.

        Raises:
            InterruptedRunError: it was asked for.
        """
        if self.stop.reason is not None:
            self._save(final=True)
            where = f"after step {self.progress.step} of epoch {self.progress.epoch + 1}"
            raise InterruptedRunError(f"stopped {where}: {self.stop.reason}. The checkpoint is safe.")

    def _save(self, final: bool = False) -> None:
        content: dict[str, Any] = {
            "digest": self.digest,
            "model": self.model.learned_state(),
            "best_model": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": self.progress.to_dict(),
        }
        save_checkpoint(self.folder / LAST, content)
        files = [path for path in (self.folder / LAST, self.folder / BEST) if path.is_file()]
        for listener in self.listeners:
            listener.on_checkpoint(files, final)
