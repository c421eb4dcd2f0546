"""The training loop: epochs of optimizer steps, validation, learning-rate schedule, early stopping, checkpoints.

All random numbers are drawn from the seed, their purpose and the epoch, and a checkpoint holds the position inside an
epoch. So a run that was stopped anywhere and resumed gives the same numbers as an uninterrupted one; on a CPU they are
bit-identical.

A batch that does not fit into the device's memory is computed in parts, whose gradients are accumulated.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inversion.config.run_config import RunConfig
from inversion.data.batches import TrainBatches
from inversion.errors import AbandonedRunError, NonFiniteError, PrunedRunError
from inversion.images import from_stored
from inversion.losses.reconstruction import LossTerms, ReconstructionLoss
from inversion.models.model import InversionModel
from inversion.training.callbacks import Callback, CallbackList
from inversion.training.checkpoint import (
    BEST,
    LAST,
    CheckpointError,
    MisfitError,
    damaged,
    load_checkpoint,
    require_fit,
    save_checkpoint,
)
from inversion.training.cotraining import CoTrainingGroup, Steps, run_alone
from inversion.training.device import Engine
from inversion.training.evaluate import validation_metrics
from inversion.training.evaluator import Evaluator
from inversion.training.feature_folder import FeatureFolder
from inversion.training.measure import PeakMemory
from inversion.training.memory import until_it_fits
from inversion.training.schedule import make_schedule
from inversion.training.state import TrainingState
from inversion.training.step import BatchGradients, FiniteCheck
from inversion.training.step_features import StoredStepFeatures
from inversion.training.stop import StopRequest

CALIBRATION_IMAGES = 32
PICTURES = 4
SNAPSHOTS = 10
"""About how many times in a run pictures are made: they take more time than the metrics of an epoch."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """The training and validation images of a run; crops are stored pixels ``uint8 (N, S, S, 3)``."""

    batches: TrainBatches
    calibration: Tensor
    """centre crops of the first training images, on which the scale of the features is measured before training"""
    validation: Tensor
    validation_names: Sequence[str]
    features: FeatureFolder | None = None
    """where the features of fixed crops are stored"""


class Trainer:
    """Trains the decoder and the fusion of a model; the encoders stay frozen.

    Args:
        model: the model; it is moved to the engine's device.
        loss: the loss of training and validation; moved to the engine's device.
        data: training batches, calibration crops and validation crops.
        config: the resolved parameters of the run.
        engine: device, precision and protocol.
        folder: where ``last.pt`` and ``best.pt`` are written.
        digest: identifies the configuration; checkpoints with another digest are rejected.
        callbacks: called at each event, in this order.
        stop: checked before every training step and every batch of a validation.
        group: the runs that train on the same encoder pass; by default this run alone.
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
        self.callbacks = CallbackList(callbacks)
        self.stop = stop or StopRequest()
        self.group = group or CoTrainingGroup()
        self.state = TrainingState()
        self.best_weights: dict[str, Tensor] = {}
        self.optimizer = torch.optim.Adam(model.trainable(), lr=config.lr, fused=True)
        self.schedule = make_schedule(self.optimizer, config, config.epochs * len(data.batches))
        self.gradients = BatchGradients(self.model, self.loss, engine, self.optimizer, self.group,
                                        config.seed)
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.finite = FiniteCheck(self.optimizer, trained, self.gradients.statistics, engine.device,
                                  loss.own.name if loss.own else "")
        self.loss_sums = torch.zeros(4, dtype=torch.float64, device=engine.device)
        self.subject = f"image_size {config.image_size} with encoder {config.encoder} and decoder {config.decoder}"
        self.evaluator = Evaluator(self.model, self.loss, engine, self.subject)

    def fit(self) -> TrainingState:
        """Trains to the end; see ``steps``."""
        return run_alone(self.steps())

    def steps(self) -> Steps[TrainingState]:
        """Trains until all epochs are done or early stopping ends the run, then loads the best epoch's weights.

        Works on a fresh trainer and after ``resume``. Yields its position before every training step, so that the runs
        of a group can take turns.

        Raises:
            NonFiniteError: a loss term or gradient is not finite; the last finite state is saved.
            InterruptedRunError: a stop was requested; the current state is saved.
            TimeLimitError: the run has trained for as long as ``stop`` allows; the current state is saved.
            PrunedRunError: a callback pruned the run; the current state is saved.
            AbandonedRunError: another process has taken over the run; nothing is saved.
            OutOfMemoryError: not even one image fits into the device's memory.
            InversionError: a batch of one image has a 1×1 feature map, on which BatchNorm cannot train.
            CheckpointError: a checkpoint could not be written.
            NoRoomError: the disk has no room for the features of fixed crops.
        """
        if not self.state.has_begun:
            self._calibrate()
            self._make_pictures()
        self._store_features()
        memory = PeakMemory(self.engine.device)
        while not self._is_done():
            self._announce_epoch()
            yield from self._train_epoch()
            metrics = self._training_metrics() | self._validate()
            self._close_epoch(metrics, memory.read_mb())
            self._report_epoch(metrics)
        self.model.load_learned_state(self.best_weights)
        return self.state

    def _is_done(self) -> bool:
        return self.state.is_done(self.config.epochs, self.config.patience)

    def _calibrate(self) -> None:
        """Measures the modifiers and the scale of the features; in eval mode, and independent of the seed."""
        stored = self.engine.send(self.data.calibration)

        def calibrate(size: int) -> None:
            with self.engine.autocast():
                self.model.calibrate(from_stored(part) for part in stored.split(size))

        until_it_fits(calibrate, min(self.config.batch_size, len(stored)), self.subject)

    def _store_features(self) -> None:
        """With fixed crops, takes their features from the folder; those that are not there are computed first."""
        if self.data.features is None:
            return

        def progress(what: str, done: int, total: int) -> None:
            self.stop_if_requested()
            self.callbacks.on_preparation(what, done, total)

        self.gradients.features = StoredStepFeatures(
            self.model, self.loss, self.engine, self.data.batches, self.data.features, self.config.batch_size, progress)

    def _announce_epoch(self) -> None:
        """Lets callbacks prune the run between two epochs: never before the first one or after the last one."""
        if not self.state.epoch or self.state.step:
            return
        try:
            self.callbacks.on_next_epoch(self.state.epoch + 1)
        except PrunedRunError:
            self._save_checkpoint(final=True)
            raise

    def _train_epoch(self) -> Steps[None]:
        """Trains one epoch, or the rest of it after a resume; yields before every step."""
        state = self.state
        self.model.train()
        for stored in self.data.batches.epoch(state.epoch + 1, start=state.step):
            yield state.epoch + 1, state.step
            self.stop.limit_time(state.train_seconds + state.seconds_in_epoch)
            self.stop_if_requested()  # before a step, not after it: of several runs, each stops before its next step
            self._train_step(stored)
        started = time.perf_counter()
        self._synchronize()
        state.seconds_in_epoch += time.perf_counter() - started

    def _train_step(self, stored: Tensor) -> None:
        """Trains on one batch of stored crops ``uint8 (B, S, S, 3)``."""
        state, on_cpu = self.state, self.engine.device.type == "cpu"
        started = time.perf_counter()
        images = from_stored(self.engine.send(stored))
        terms = self._update(images)
        if on_cpu:  # on a GPU, the host would wait for the device at every step
            self._require_finite()
        state.step += 1
        state.images += len(images)
        self._add_to_sums(terms, len(images))
        state.seconds_in_epoch += time.perf_counter() - started + self.gradients.take_saved_seconds()
        self.callbacks.on_step(state.epoch + 1, state.step, len(self.data.batches),
                               terms.total.item() if on_cpu else None)

    def _update(self, images: Tensor) -> LossTerms:
        """One optimizer step on images ``(B, 3, S, S)``; with a smaller micro-batch if memory runs out."""
        state, before = self.state, [buffer.clone() for buffer in self.gradients.statistics]
        self.schedule.before_step(state.epoch * len(self.data.batches) + state.step)
        terms = until_it_fits(
            lambda size: self.gradients.of(images, size, before, (state.epoch, state.step)),
            min(state.micro_batch or len(images), len(images)), self.subject, self._reduce_micro_batch,
        )
        norm = self.finite.check(state.step + 1, terms, before)
        if self.config.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(self.model.trainable(), self.config.clip_norm, norm)
        # Not retried if memory runs out: it needs the same with any micro-batch, and may be half done.
        self.optimizer.step()
        return terms

    def _reduce_micro_batch(self, size: int, smaller: int) -> None:
        self.state.micro_batch = smaller
        _logger.warning(
            "out of memory: %d images at a time do not fit into a training step. Retrying with %d at a time, whose "
            "gradients are accumulated to the same effective batch of %d. BatchNorm sees the smaller batches, so this "
            "run is not bit-identical to one with enough memory.", size, smaller, self.config.batch_size)
        self.callbacks.on_micro_batch(smaller)

    def _add_to_sums(self, terms: LossTerms, images: int) -> None:
        """Adds a step's loss terms to the sums of the epoch, on the device, unless they are not finite."""
        self.loss_sums += torch.where(self.finite.failed, 0.0, terms.values().double() * images)

    def _synchronize(self) -> None:
        """Waits for the device, then checks and reads the results of the steps so far."""
        self._require_finite()
        self._read_sums()

    def _read_sums(self) -> None:
        state = self.state
        state.loss_sum, state.mse_sum, state.lpips_sum, state.own_sum = self.loss_sums.tolist()

    def _require_finite(self) -> None:
        """Saves the last finite state and ends the run if a step was not finite.

        Raises:
            NonFiniteError: the message names the step and what was not finite.
        """
        fault, state = self.finite.read(), self.state
        if fault is None:
            return
        state.step = fault.step - 1
        state.images = min(state.images, state.step * self.config.batch_size)
        self._read_sums()
        self._save_checkpoint()
        raise NonFiniteError(f"step {fault.step} of epoch {state.epoch + 1}: {fault.what} is not finite. "
                             f"{self._remedy()}")

    def _remedy(self) -> str:
        return f"Try a lower lr (now {self.optimizer.param_groups[0]['lr']:g}) or precision=fp32."

    def _training_metrics(self) -> dict[str, float]:
        """The metrics of an epoch's training steps."""
        state = self.state
        metrics = {"train/loss": state.loss_sum / state.images, "train/mse": state.mse_sum / state.images,
                   "lr": self.optimizer.param_groups[0]["lr"],
                   "images_per_second": state.images / max(state.seconds_in_epoch, 1e-9)}
        if self.loss.lpips is not None and self.loss.lpips_weight:
            metrics["train/lpips"] = state.lpips_sum / state.images
        if self.loss.own is not None:
            metrics[f"train/{self.loss.own.name}"] = state.own_sum / state.images
        return metrics

    def _validate(self) -> dict[str, float]:
        """Scores the validation images and counts the time.

        Raises:
            NonFiniteError: the loss is not finite: the last step of an epoch can ruin the weights, and no later step
                would find it.
        """
        state, started = self.state, time.perf_counter()
        scores = self.evaluator.score(self.data.validation, self.stop_if_requested, self.group.validation)
        metrics = validation_metrics(scores, self.loss)
        seconds = time.perf_counter() - started
        state.validation_seconds += seconds
        state.train_seconds += state.seconds_in_epoch + seconds
        loss = metrics["val/loss"]
        if not math.isfinite(loss):
            raise NonFiniteError(f"validation after epoch {state.epoch + 1}: val/loss is {loss}. {self._remedy()}")
        return metrics

    def _close_epoch(self, metrics: dict[str, float], peak_memory_mb: float) -> None:
        """Updates state, best weights and learning rate, and saves the checkpoints."""
        state = self.state
        state.peak_memory_mb = max(state.peak_memory_mb, peak_memory_mb)
        state.last_metrics = metrics
        self.loss_sums.zero_()
        if state.finish_epoch(metrics["val/loss"], metrics["val/psnr"], metrics["train/loss"]):
            self.best_weights = {name: value.cpu().clone() for name, value in self.model.learned_state().items()}
            save_checkpoint(self.folder / BEST, {"digest": self.digest, "epoch": state.epoch,
                                                 "model": self.best_weights, "metrics": metrics})
        self.schedule.step(metrics["val/loss"])
        self._save_checkpoint(final=self._is_done())

    def _report_epoch(self, metrics: dict[str, float]) -> None:
        epoch = self.state.epoch
        self.callbacks.on_epoch(epoch, metrics)
        if epoch == 1 or epoch % max(1, self.config.epochs // SNAPSHOTS) == 0:
            self._make_pictures()

    def _make_pictures(self) -> None:
        pictures = self.evaluator.reconstruct(self.data.validation[:PICTURES], self.data.validation_names)
        self.callbacks.on_pictures(self.state.epoch, pictures)

    def stop_if_requested(self) -> None:
        """Saves and ends the run if a stop was requested; called where the state is consistent.

        Raises:
            InterruptedRunError: a stop was requested.
            AbandonedRunError: another process has taken over the run, and with it the checkpoints.
        """
        if self.stop.reason is None:
            return
        if self.stop.error is AbandonedRunError:
            raise AbandonedRunError(self.stop.reason)
        self._synchronize()
        self._save_checkpoint(final=True)
        where = f"after step {self.state.step} of epoch {self.state.epoch + 1}"
        raise self.stop.error(f"stopped {where}: {self.stop.reason}. The checkpoint is saved.")

    def _save_checkpoint(self, final: bool = False) -> None:
        content: dict[str, Any] = {
            "digest": self.digest,
            "model": self.model.learned_state(),
            "best_model": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "progress": self.state.to_dict(),
        }
        save_checkpoint(self.folder / LAST, content)
        files = [path for path in (self.folder / LAST, self.folder / BEST) if path.is_file()]
        self.callbacks.on_checkpoint(files, final)

    def resume(self, path: Path) -> None:
        """Restores the state of a ``last.pt`` of the same configuration.

        Raises:
            CheckpointError: as ``load_resumable``; the trainer is unchanged.
        """
        content = self.load_resumable(path)
        self.model.load_learned_state(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.load_state_dict(content["schedule"])
        self.best_weights = content["best_model"]
        self.state = state = TrainingState(**content["progress"])
        sums = [state.loss_sum, state.mse_sum, state.lpips_sum, state.own_sum]
        self.loss_sums.copy_(torch.tensor(sums, dtype=torch.float64))
        if state.micro_batch:
            self.callbacks.on_micro_batch(state.micro_batch)
        if state.epoch:  # the process may have died after it saved this epoch and before it reported it
            self.callbacks.on_epoch(state.epoch, state.last_metrics)

    def load_resumable(self, path: Path) -> dict[str, Any]:
        """The content of a ``last.pt``, checked to be one that this trainer can resume from.

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
