"""A finished run loaded again, from the tracking server alone: its configuration, its model, its LPIPS."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inversion.config.device import choose_device
from inversion.config.document import config_of
from inversion.config.run_config import RunConfig
from inversion.errors import DamagedArtifactError, RequestError, WeightsError
from inversion.images import from_stored
from inversion.losses.lpips_weights import TrunkSource, find_trunk
from inversion.models.model import InversionModel
from inversion.models.packing import load_packed
from inversion.tracking.artifacts import RESTORE, require_artifacts
from inversion.tracking.connection import Connection
from inversion.tracking.results import fetch_packed
from inversion.tracking.search import choose_run, document_of
from inversion.training.device import Engine, make_engine
from inversion.training.evaluate import BATCH
from inversion.training.memory import BatchSize


@dataclass(frozen=True)
class TrainedRun:
    """What a finished run was, and what it scored; ``config.device`` is the one to compute on here."""

    run_id: str
    experiment_id: str
    name: str
    config: RunConfig
    document: dict[str, Any]
    metrics: dict[str, float]

    def engine(self) -> Engine:
        """The run's own precision, protocol and number of threads, which belongs to the whole process."""
        return make_engine(self.config)


class Reconstructor:
    """A trained model on its device, ready for images."""

    def __init__(self, model: InversionModel, engine: Engine, subject: str) -> None:
        # as the trainer has it: the memory format decides the order of additions, and with it the last bits
        self.model = model.to(engine.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.engine = engine
        self.batch = BatchSize(BATCH, subject)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Images ``(N, 3, S, S)`` in [0, 1] to reconstructions of the same shape, on the CPU, in batches.

        Raises:
            OutOfMemoryError: not even one image fits into the device's memory.
        """

        def reconstruct(part: Tensor) -> Tensor:
            with self.engine.autocast():
                result: Tensor = self.model(part.to(self.engine.device, memory_format=torch.channels_last))
            return result.float().cpu()

        return torch.cat(list(self.batch.map(reconstruct, images)))

    def stored(self, crops: Tensor) -> Tensor:
        """Stored crops ``uint8 (N, S, S, 3)`` to their reconstructions ``(N, 3, S, S)``."""
        return self(from_stored(crops))


def find_trained(connection: Connection, text: str, device: str | None = None, everywhere: bool = True) -> TrainedRun:
    """The finished run that ``text`` means (``tracking.choose``), to be computed on ``device``.

    Without a device it is the run's own where this machine has it, else the best one here.

    Raises:
        RequestError: no such run, not finished, not a training run, its artifacts are on another machine, or no such
            device here.
        DocumentError: its configuration cannot be read, or not be used by this version.
    """
    run = choose_run(connection, text, everywhere)
    require_artifacts(run)
    document = document_of(run)
    config = config_of(document, f"run {run.info.run_id} ({run.info.run_name})")
    chosen = config.model_copy(update={"device": choose_device(device) if device else _nearest(config.device)})
    return TrainedRun(run.info.run_id, run.info.experiment_id, str(run.info.run_name), chosen, document,
                      dict(run.data.metrics))


def load_reconstructor(run: TrainedRun) -> Reconstructor:
    """The model of a run, fetched from the tracking server.

    Raises:
        MissingArtifactError: the run has no model.
        DamagedArtifactError: it cannot be loaded, or is another run's.
    """
    engine = run.engine()
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = load_packed(fetch_packed(run.run_id, Path(folder)))
        except DamagedArtifactError as error:
            raise DamagedArtifactError(f"the model of run {run.run_id} ({run.name}) cannot be used: {error}. {RESTORE}"
                                       ) from error
        _require_of(model, run)
    return Reconstructor(model, engine, f"image_size {run.config.image_size}")


def _require_of(model: InversionModel, run: TrainedRun) -> None:
    """Raises a DamagedArtifactError if a run's model is not what the run was asked to train."""
    config, cuts = run.config, [encoder.cut for encoder in model.frozen]
    shapes = [(encoder.feature_shape, encoder.cut.shape(config.image_size)) for encoder in model.frozen]
    if "+".join(map(str, cuts)) != config.encoder or any(found != wanted for found, wanted in shapes):
        raise DamagedArtifactError(f"the model of run {run.run_id} ({run.name}) is another run's: it has "
                                   f"{'+'.join(map(str, cuts))}, and the run {config.encoder} at image_size "
                                   f"{config.image_size}. {RESTORE}")


def find_lpips(run: TrainedRun, given: str | None) -> tuple[TrunkSource | None, str]:
    """The weights to score LPIPS with, and a line on what is other than in the run: empty if nothing is.

    Without ``given`` they are the run's own, if these very weights are at hand here.

    Raises:
        WeightsError: what is given cannot be had.
    """
    logged = run.document["identity"]["lpips"]
    if given is not None:
        source = find_trunk(given)
        if source:
            source.check()
        same = (source.identity() if source else None) == logged
        return source, "" if same else f"lpips_weights={given} is not what run {run.name} was scored with"
    if logged is None:
        return None, ""
    wanted = run.document["parameters"]["lpips_weights"]
    absent = f"no LPIPS: the weights of run {run.name} ({wanted}) are not here; give them with --lpips-weights"
    try:
        source = find_trunk(wanted)
    except WeightsError:
        return None, absent
    return (source, "") if source and source.identity() == logged else (None, absent)


def _nearest(device: str) -> str:
    try:
        return choose_device(device)
    except RequestError:
        return choose_device("auto")
