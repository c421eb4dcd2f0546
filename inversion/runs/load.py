"""Loading a finished run from the tracking server: its configuration, its model, its LPIPS weights."""

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
from inversion.tracking.choose import choose_run
from inversion.tracking.connection import Connection
from inversion.tracking.results import fetch_packed
from inversion.tracking.search import document_of
from inversion.training.device import Engine, make_engine
from inversion.training.evaluate import BATCH
from inversion.training.memory import BatchSize


@dataclass(frozen=True)
class TrainedRun:
    """A finished run, with its configuration and metrics; ``config.device`` is the device to compute on here."""

    run_id: str
    experiment_id: str
    name: str
    config: RunConfig
    document: dict[str, Any]
    metrics: dict[str, float]

    def engine(self) -> Engine:
        """The run's precision, protocol and number of threads; the latter is set for the whole process."""
        return make_engine(self.config)


class Reconstructor:
    """A trained model on its device.

    Args:
        model: the model.
        engine: device, precision and protocol.
        subject: what the images are, for the message if not even one fits into memory.
    """

    def __init__(self, model: InversionModel, engine: Engine, subject: str) -> None:
        # as in the trainer: the last bits depend on the memory format
        self.model = model.to(engine.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.engine = engine
        self.batch = BatchSize(BATCH, subject)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Reconstructions of images ``(N, 3, S, S)`` in [0, 1], computed in batches: the same shape, on the CPU.

        Raises:
            OutOfMemoryError: not even one image fits into the device's memory.
        """

        def reconstruct(part: Tensor) -> Tensor:
            with self.engine.autocast():
                result: Tensor = self.model(part.to(self.engine.device, memory_format=torch.channels_last))
            return result.float().cpu()

        return torch.cat(list(self.batch.map(reconstruct, images)))

    def stored(self, crops: Tensor) -> Tensor:
        """Reconstructions ``(N, 3, S, S)`` of stored crops ``uint8 (N, S, S, 3)``; raises what a call raises."""
        return self(from_stored(crops))


def find_trained(connection: Connection, text: str, device: str | None = None, everywhere: bool = True) -> TrainedRun:
    """Finds a finished training run.

    Args:
        connection: the tracking store.
        text: a run id, the beginning of one, a run name, or ``STUDY/NAME`` (``tracking.choose.choose_run``).
        device: the device to compute on; by default the run's own if this machine has it, else the best one here.
        everywhere: whether to search all experiments, or the connection's only.

    Raises:
        RequestError: there is no such run, it is not a finished training run, its artifacts are on another machine, or
            this machine has no such device.
        DocumentError: its configuration cannot be read or used by this version.
    """
    run = choose_run(connection, text, everywhere)
    require_artifacts(run)
    document = document_of(run)
    config = config_of(document, f"run {run.info.run_id} ({run.info.run_name})")
    chosen = config.model_copy(update={"device": choose_device(device) if device else _nearest(config.device)})
    return TrainedRun(run.info.run_id, run.info.experiment_id, str(run.info.run_name), chosen, document,
                      dict(run.data.metrics))


def load_reconstructor(run: TrainedRun, trust_code: bool = False) -> Reconstructor:
    """The model of a run, downloaded from the tracking server.

    ``trust_code`` says that code which comes with the run may be executed, if a part of the run is in a file that
    is not on this machine.

    Raises:
        UntrustedCodeError: it may not.
        MissingArtifactError: the run has no model.
        DamagedArtifactError: the model cannot be loaded, or belongs to another run.
    """
    engine = run.engine()
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = load_packed(fetch_packed(run.run_id, Path(folder)), trust_code, f"run {run.run_id} ({run.name})")
        except DamagedArtifactError as error:
            raise DamagedArtifactError(f"the model of run {run.run_id} ({run.name}) cannot be used: {error}. {RESTORE}"
                                       ) from error
        _require_model_of(run, model)
    return Reconstructor(model, engine, f"image_size {run.config.image_size}")


def _require_model_of(run: TrainedRun, model: InversionModel) -> None:
    """Raises a DamagedArtifactError if encoders, image size or number of parameters are not the run's."""
    config, cuts = run.config, [encoder.cut for encoder in model.frozen]
    shapes = [(encoder.feature_shape, encoder.cut.shape(config.image_size)) for encoder in model.frozen]
    differs = ""
    if "+".join(map(str, cuts)) != config.encoder or any(found != wanted for found, wanted in shapes):
        differs = (f"it has {'+'.join(map(str, cuts))}, and the run has {config.encoder} at image_size "
                   f"{config.image_size}")
    elif (found := model.count_trainable()) != (logged := run.metrics.get("decoder_parameters", found)):
        differs = f"its decoder has {found:,} parameters, and that of the run, {config.decoder}, has {logged:,.0f}"
    if differs:
        raise DamagedArtifactError(f"the model of run {run.run_id} ({run.name}) belongs to another run: {differs}. "
                                   f"{RESTORE}")


def find_lpips(run: TrainedRun, given: str | None) -> tuple[TrunkSource | None, str]:
    """The LPIPS weights to score with, and a note if they differ from the run's, else an empty text.

    Args:
        run: the run to score.
        given: the weights to use; by default the run's own, if exactly these are available here.

    Raises:
        WeightsError: the given weights cannot be found, downloaded or used.
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
    absent = f"no LPIPS: the weights of run {run.name} ({wanted}) are not available here; give --lpips-weights"
    try:
        source = find_trunk(wanted)
    except WeightsError:
        return None, absent
    return (source, "") if source and source.identity() == logged else (None, absent)


def _nearest(device: str) -> str:
    """The device if this machine has it, else the best one here."""
    try:
        return choose_device(device)
    except RequestError:
        return choose_device("auto")
