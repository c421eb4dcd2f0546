"""The training loop: epochs of optimiser steps, validation, schedule, early stopping, checkpoints.

Everything random is drawn from the seed, the purpose and the epoch, and a checkpoint holds the position inside an
epoch, so a run that was stopped anywhere and resumed gives the same numbers, to the bit on a CPU, as one that was not.

A batch that does not fit into the device's memory is computed in parts, whose gradients are accumulated.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from inversion.config.run_config import RunConfig
from inversion.data.batches import TrainBatches
from inversion.errors import AbandonedRunError, NonFiniteError, PrunedRunError
from inversion.images import from_stored
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss
from inversion.models.model import InversionModel
from inversion.training.callbacks import Callback, Picture
from inversion.training.checkpoint import BEST, LAST, CheckpointError, damaged, load_checkpoint, save_checkpoint
from inversion.training.cotraining import CoTrainingGroup, Steps, run_alone
from inversion.training.device import Engine
from inversion.training.evaluate import BATCH, Scores, evaluate, validation_metrics
from inversion.training.feature_cache import FeatureCache
from inversion.training.finite import FiniteCheck
from inversion.training.fitting import MisfitError, require_fit
from inversion.training.gradients import BatchGradients
from inversion.training.measure import PeakMemory
from inversion.training.memory import BatchSize, until_it_fits
from inversion.training.state import TrainingState
from inversion.training.stop import StopRequest

CALIBRATION_IMAGES = 32
PICTURES = 4
SNAPSHOTS = 10
"""About how many times in a run pictures are made: they cost more than an epoch of numbers."""

_logger = logging.getLogger(__name__)


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
        callbacks: Sequence[Callback] = (),
        stop: StopRequest | None = None,
        group: CoTrainingGroup | None = None,
    ) -> None:
        self.model = model.to(engine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = loss.to(engine.device)
        self.data = data
        self.config = config
        self.engine = engine
        self.folder = folder
        self.digest = digest
        self.callbacks = callbacks
        self.stop = stop or StopRequest()
        self.state = TrainingState()
        self.best_state: dict[str, Tensor] = {}
        self.optimizer = torch.optim.Adam(model.trainable(), lr=config.lr, fused=True)
        self.schedule = ReduceLROnPlateau(
            self.optimizer, factor=config.lr_factor, patience=config.lr_patience, min_lr=config.min_lr
        )
        self.group = group or CoTrainingGroup()
        self.gradients = BatchGradients(self.model, self.loss, engine, self.optimizer, self.group)
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.finite = FiniteCheck(self.optimizer, trained, self.gradients.statistics, engine.device)
        self.sums = torch.zeros(3, dtype=torch.float64, device=engine.device)
        self.subject = f"image_size {config.image_size} with encoder {config.encoder} and decoder {config.decoder}"
        self.evaluation_batch = BatchSize(BATCH, self.subject)

    def fit(self) -> TrainingState:
        """Trains to the end; see ``steps``."""
        return run_alone(self.steps())

    def steps(self) -> Steps[TrainingState]:
        """Trains until all epochs are done or patience ends, then puts the best epoch's weights into the model.

        Yields its position before every training step, so that others can take their turn.

        Raises:
            NonFiniteError: a loss term or gradient is not finite; the weights of the last good step are saved.
            InterruptedRunError: a stop was asked for; the last checkpoint is the present state.
            PrunedRunError: a callback gave the run up; the same.
            AbandonedRunError: the run is another process's now.
            OutOfMemoryError: not even one image fits into the device's memory.
            InversionError: a single image with a 1×1 map is left to BatchNorm, which cannot train on it.
            CheckpointError: a checkpoint could not be written.
        """
        if self.state.epoch == 0 and self.state.step == 0:
            self._calibrate()
            self._tell_pictures()
        memory = PeakMemory(self.engine.device)
        while not self.state.is_done(self.config.epochs, self.config.patience):
            self._ask_to_go_on()
            yield from self._train_epoch()
            self._close_epoch(memory)
        self.model.load_learned_state(self.best_state)
        return self.state

    def resume(self, path: Path) -> None:
        """Continues from a ``last.pt`` of the same configuration.

        Raises:
            CheckpointError: as ``load_resumable``; nothing of this trainer has changed.
        """
        content = self.load_resumable(path)
        self.model.load_learned_state(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.best_state = content["best_model"]
        self.state = state = TrainingState(**content["progress"])
        self.sums.copy_(torch.tensor([state.loss_sum, state.mse_sum, state.lpips_sum], dtype=torch.float64))
        if self.state.micro_batch:
            self._tell_micro_batch()
        if self.state.epoch:  # the process may have died between saving this epoch and telling of it
            for callback in self.callbacks:
                callback.on_epoch(self.state.epoch, self.state.last_metrics)

    def load_resumable(self, path: Path) -> dict[str, Any]:
        """The content of a ``last.pt`` that this trainer can go on from.

        Raises:
            CheckpointError: the file cannot be read, belongs to another configuration, or lacks what is needed.
        """
        content = load_checkpoint(path)
        if content.get("digest") != self.digest:
            raise CheckpointError(f"{path} belongs to configuration {content.get('digest')}, not to {self.digest}")
        try:
            require_fit(content, self.model.learned_state(), self.optimizer, self.schedule, len(self.data.batches))
        except MisfitError as error:
            raise damaged(path, error) from error
        return content

    def _calibrate(self) -> None:
        """Measures the features' scale; the model is in eval mode and no seed is involved."""
        stored = self.engine.send(self.data.calibration)

        def calibrate(size: int) -> None:
            with self.engine.autocast():
                self.model.calibrate(from_stored(part) for part in stored.split(size))

        until_it_fits(calibrate, min(self.config.batch_size, len(stored)), self.subject)

    def _ask_to_go_on(self) -> None:
        """Before every epoch but the first: a search may give the run up, and never after its last epoch."""
        if not self.state.epoch or self.state.step:
            return
        try:
            for callback in self.callbacks:
                callback.on_next_epoch(self.state.epoch + 1)
        except PrunedRunError:
            self._save(final=True)
            raise

    def _train_epoch(self) -> Steps[None]:
        state, steps, on_cpu = self.state, len(self.data.batches), self.engine.device.type == "cpu"
        epoch = state.epoch + 1
        self.model.train()
        for stored in self.data.batches.epoch(epoch, start=state.step):
            yield epoch, state.step
            self.stop_if_asked()  # before a step and not after it: where several take turns, each stops at its next
            started = time.perf_counter()
            images = from_stored(self.engine.send(stored))
            terms = self._step(images)
            if on_cpu:  # elsewhere, asking would make the device wait for the host, at every step
                self._raise_if_broken()
            state.step += 1
            state.images += len(images)
            self._add(terms, len(images))
            state.seconds_in_epoch += time.perf_counter() - started + self.gradients.take_saved_seconds()
            for callback in self.callbacks:
                callback.on_step(epoch, state.step, steps, terms.total.item() if on_cpu else None)
        started = time.perf_counter()
        self._settle()
        state.seconds_in_epoch += time.perf_counter() - started

    def _step(self, images: Tensor) -> LossTerms:
        state, before = self.state, [buffer.clone() for buffer in self.gradients.statistics]
        terms = until_it_fits(
            lambda size: self.gradients.of(images, size, before, (state.epoch, state.step)),
            min(state.micro_batch or len(images), len(images)), self.subject, self._halve_micro_batch,
        )
        self.finite.look(state.step + 1, terms, before)
        # Not tried again if it runs out of memory: it needs the same whatever the micro-batch, and may be half done.
        self.optimizer.step()
        return terms

    def _add(self, terms: LossTerms, images: int) -> None:
        """Adds a step's terms to the epoch's sums, on the device; those of a step that changed nothing are left out."""
        perceptual = torch.zeros_like(terms.mse) if terms.lpips is None else terms.lpips
        values = torch.stack([terms.total, terms.mse, perceptual]).double() * images
        self.sums += torch.where(self.finite.broken, 0.0, values)

    def _settle(self) -> None:
        """Reads what the steps so far have come to: waits for the device."""
        self._raise_if_broken()
        self._read_sums()

    def _read_sums(self) -> None:
        self.state.loss_sum, self.state.mse_sum, self.state.lpips_sum = self.sums.tolist()

    def _raise_if_broken(self) -> None:
        """Saves the state of the last good step and ends the run if a later one was not finite.

        Raises:
            NonFiniteError: the message names the step and what was not finite.
        """
        fault, state = self.finite.read(), self.state
        if fault is None:
            return
        state.step = fault.step - 1
        state.images = min(state.images, state.step * self.config.batch_size)
        self._read_sums()
        self._save()
        raise NonFiniteError(
            f"step {fault.step} of epoch {state.epoch + 1}: {fault.what} is not finite. Try a lower lr "
            f"(now {self.optimizer.param_groups[0]['lr']:g}) or precision=fp32."
        )

    def _halve_micro_batch(self, size: int, smaller: int) -> None:
        self.state.micro_batch = smaller
        _logger.warning(
            "out of memory: %d images at a time do not fit into a training step. %d at a time are tried, and their "
            "gradients accumulated to the same effective batch of %d. BatchNorm sees the smaller batches, so this run "
            "is not bit-identical to one with memory enough.", size, smaller, self.config.batch_size)
        self._tell_micro_batch()

    def _tell_micro_batch(self) -> None:
        for callback in self.callbacks:
            callback.on_micro_batch(self.state.micro_batch)

    def _check_validation(self, loss: float) -> None:
        """The last step of an epoch can ruin the weights and no later step would tell."""
        if not math.isfinite(loss):
            raise NonFiniteError(f"validation after epoch {self.state.epoch + 1}: val/loss is {loss}. "
                                 f"Try a lower lr (now {self.optimizer.param_groups[0]['lr']:g}) or precision=fp32.")

    def _close_epoch(self, memory: PeakMemory) -> None:
        state = self.state
        rate = self.optimizer.param_groups[0]["lr"]
        metrics = {"train/loss": state.loss_sum / state.images, "train/mse": state.mse_sum / state.images,
                   "lr": rate, "images_per_second": state.images / max(state.seconds_in_epoch, 1e-9)}
        if self.loss.lpips is not None and self.loss.lpips_weight:
            metrics["train/lpips"] = state.lpips_sum / state.images
        started = time.perf_counter()
        scores = self.score(self.data.validation, self.group.validation)
        metrics |= validation_metrics(scores, self.loss)
        validated = time.perf_counter() - started
        state.validation_seconds += validated
        state.train_seconds += state.seconds_in_epoch + validated
        self._check_validation(metrics["val/loss"])
        state.peak_memory_mb = max(state.peak_memory_mb, memory.read_mb())
        state.last_metrics = metrics
        self.sums.zero_()
        if state.finish_epoch(metrics["val/loss"], metrics["val/psnr"]):
            self.best_state = {name: value.cpu().clone() for name, value in self.model.learned_state().items()}
            save_checkpoint(self.folder / BEST, {"digest": self.digest, "epoch": state.epoch,
                                                 "model": self.best_state, "metrics": metrics})
        self.schedule.step(metrics["val/loss"])
        self._save(final=state.is_done(self.config.epochs, self.config.patience))
        self._tell_epoch(metrics)

    def _tell_epoch(self, metrics: dict[str, float]) -> None:
        epoch = self.state.epoch
        for callback in self.callbacks:
            callback.on_epoch(epoch, metrics)
        if epoch == 1 or epoch % max(1, self.config.epochs // SNAPSHOTS) == 0:
            self._tell_pictures()

    def _tell_pictures(self) -> None:
        pictures = self.reconstruct(self.data.validation[:PICTURES], self.data.validation_names)
        for callback in self.callbacks:
            callback.on_pictures(self.state.epoch, pictures)

    @torch.no_grad()
    def reconstruct(self, stored: Tensor, names: Sequence[str]) -> list[Picture]:
        """Stored crops ``uint8 (N, S, S, 3)`` beside their reconstructions; the model is in eval mode afterwards.

        Raises:
            OutOfMemoryError: not even one image fits into the device's memory.
        """
        self.model.eval()

        def pairs(stored: Tensor) -> list[tuple[Tensor, Tensor]]:
            images = from_stored(self.engine.send(stored))
            with self.engine.autocast():
                return list(zip(images, self.model(images).float(), strict=True))

        rows = [row for batch in self.evaluation_batch.map(pairs, stored) for row in batch]
        return [Picture.of(name, *row) for name, row in zip(names, rows, strict=False)]

    def score_and_show(self, stored: Tensor, names: Sequence[str], most: int) -> tuple[Scores, list[Picture]]:
        """Scores of stored crops, and the first ``most`` of them beside their reconstructions, in one pass.

        Raises:
            InterruptedRunError: a stop was asked for.
            OutOfMemoryError: not even one image fits into the device's memory.
        """
        pictures: list[Picture] = []

        def watch(images: Tensor, reconstructions: Tensor) -> None:
            shown = names[len(pictures):most]
            pictures.extend(map(Picture.of, shown, images, reconstructions))

        return self.score(stored, watch=watch), pictures

    def score(self, stored: Tensor, cache: FeatureCache | None = None,
              watch: Callable[[Tensor, Tensor], None] = lambda images, reconstructions: None) -> Scores:
        """Scores of stored crops ``uint8 (N, S, S, 3)``; the model is in eval mode afterwards.

        ``cache`` belongs to these very crops, where they are scored more than once; ``watch`` is given the images and
        reconstructions of each batch.

        Raises:
            InterruptedRunError: a stop was asked for.
            OutOfMemoryError: not even one image fits into the device's memory.
        """
        return evaluate(self.model, stored, self.loss, self.engine, self.stop_if_asked, self.evaluation_batch, cache,
                        watch)

    def stop_if_asked(self) -> None:
        """Saves and ends the run if somebody asked for it; called where the state is consistent.

        Raises:
            InterruptedRunError: it was asked for.
            AbandonedRunError: the run is another process's now, and so are its checkpoints.
        """
        if self.stop.reason is None:
            return
        if self.stop.error is AbandonedRunError:
            raise AbandonedRunError(self.stop.reason)
        self._settle()
        self._save(final=True)
        where = f"after step {self.state.step} of epoch {self.state.epoch + 1}"
        raise self.stop.error(f"stopped {where}: {self.stop.reason}. The checkpoint is safe.")

    def _save(self, final: bool = False) -> None:
        content: dict[str, Any] = {
            "digest": self.digest,
            "model": self.model.learned_state(),
            "best_model": self.best_state,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": self.state.to_dict(),
        }
        save_checkpoint(self.folder / LAST, content)
        files = [path for path in (self.folder / LAST, self.folder / BEST) if path.is_file()]
        for callback in self.callbacks:
            callback.on_checkpoint(files, final)
