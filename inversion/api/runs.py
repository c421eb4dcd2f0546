"""Single runs: training one, finding one, its history, its scores, its model, and reconstructions of pictures."""

from __future__ import annotations

import html
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor

from inversion.config.labels import labels_of
from inversion.config.resolve import check, check_inputs
from inversion.config.run_config import parse_config
from inversion.console import make_console, progress_bars
from inversion.images import to_uint8
from inversion.metrics import METRICS
from inversion.models.model import InversionModel
from inversion.reconstruct.reconstruct import PictureScores, Size, reconstruct_picture
from inversion.reconstruct.sources import find_pictures, read_picture, require_readable
from inversion.runs.load import Reconstructor, TrainedRun, find_lpips, find_trained, load_reconstructor
from inversion.runs.prepare import prepare
from inversion.runs.train import convert_out_of_memory, train_steps
from inversion.tracking.choose import choose_run
from inversion.tracking.connection import Connection, connect
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.tracking.results import fetch_image_scores
from inversion.tracking.retry import with_retries
from inversion.tracking.search import find_run
from inversion.training.cotraining import run_alone
from inversion.training.progress_bar import ProgressBar
from inversion.training.stop import interruptible

Picture = str | PathLike[str]


@dataclass(frozen=True)
class Run:
    """A run in MLflow, as it was when it was looked up.

    Attributes:
        id: Its id in MLflow.
        name: Its name, such as ``vgg16:block1+wavelet``.
        status: ``FINISHED``, ``FAILED``, ``KILLED`` or ``RUNNING``.
        parameters: The parameters as logged, as text.
        metrics: The last value of each metric: ``run.metrics["test/psnr"]``.
    """

    id: str
    name: str
    status: str
    parameters: Mapping[str, str] = field(repr=False)
    metrics: Mapping[str, float] = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)

    def history(self) -> pd.DataFrame:
        """The metrics of each epoch, a column each: ``train/loss``, ``val/psnr``, ``lr`` …"""
        client = self._connection.client
        columns = {key: {point.step: point.value for point in client.get_metric_history(self.id, key)}
                   for key in self.metrics if key.startswith(("train/", "val/")) or key in ("lr", "images_per_second")}
        return pd.DataFrame(columns).sort_index().rename_axis("epoch")

    def images(self) -> pd.DataFrame:
        """The scores of each test image.

        Raises:
            MissingArtifactError: the run is not finished.
        """
        with tempfile.TemporaryDirectory() as folder:
            return pd.DataFrame(fetch_image_scores(self.id, Path(folder)))

    def load(self, device: str | None = None, trust_code: bool = False) -> InversionModel:
        """The trained model, in eval mode: ``model(images)``, ``model.encode(images)``, ``model.decode(features)``.

        Images are ``(B, 3, S, S)`` in [0, 1], features a list of ``(B, C, h, w)``, one for each encoder.

        Args:
            device: ``cpu``, ``cuda`` or ``cuda:N``; by default the run's own if this machine has it.
            trust_code: whether to execute the code of parts that comes with the run, if it is not on this machine.

        Raises:
            UntrustedCodeError: there is such code, and it is not trusted.
        """
        model: InversionModel = self._reconstructor(device, trust_code)[1].model
        return model

    def reconstruct(self, pictures: Picture | Sequence[Picture], size: Size = "fit", device: str | None = None,
                    trust_code: bool = False) -> list[Reconstructed]:
        """Reconstructions of pictures of any size.

        Args:
            pictures: files, folders or patterns.
            size: ``fit`` scales and crops each to the run's image size, as its test images; ``tiles`` keeps its size.
            device: as for ``load``.
            trust_code: as for ``load``.

        Raises:
            UntrustedCodeError: as for ``load``.
            DataError: a picture cannot be used.
        """
        given = [pictures] if isinstance(pictures, str | PathLike) else list(pictures)
        sources = find_pictures([str(picture) for picture in given])
        require_readable(sources)
        trained, reconstructor = self._reconstructor(device, trust_code)
        trunk, _ = find_lpips(trained, None)
        lpips = trunk.load() if trunk else None
        made = []
        with convert_out_of_memory():
            for source in sources:
                found = reconstruct_picture(read_picture(source), size, trained.config.image_size, reconstructor, lpips)
                made.append(Reconstructed(source.path, as_picture(found.original), as_picture(found.reconstruction),
                                          found.scores))
        return made

    def _reconstructor(self, device: str | None, trust_code: bool) -> tuple[TrainedRun, Reconstructor]:
        trained = find_trained(self._connection, self.id, device)
        return trained, load_reconstructor(trained, trust_code)

    def _repr_html_(self) -> str:
        scores = "".join(f"<tr><td>{metric.label}</td><td>{self.metrics[f'test/{name}']:.{metric.digits}f} ± "
                         f"{self.metrics.get(f'test/{name}_std', 0.0):.{metric.digits}f}</td></tr>"
                         for name, metric in METRICS.items() if f"test/{name}" in self.metrics)
        return (f"<table><caption><b>{html.escape(self.name)}</b> ({self.status}, {self.id})</caption>{scores}"
                "</table>")


@dataclass(frozen=True)
class Reconstructed:
    """A picture, its reconstruction and the scores; a notebook shows both, side by side."""

    path: Path
    original: Image.Image = field(repr=False)
    reconstruction: Image.Image = field(repr=False)
    scores: PictureScores

    def _repr_png_(self) -> bytes:
        sheet = Image.new("RGB", (2 * self.original.width, self.original.height))
        sheet.paste(self.original, (0, 0))
        sheet.paste(self.reconstruction, (self.original.width, 0))
        file = io.BytesIO()
        sheet.save(file, "PNG")
        return file.getvalue()


def train(*, tracking_uri: str | None = None, experiment: str | None = None, tags: Mapping[str, str] | None = None,
          comment: str | None = None, **parameters: Any) -> Run:
    """Trains and scores one combination, as ``inversion train`` does, and logs it to MLflow.

    ``inv.train(encoder="vgg16:block1", decoder="wavelet", data="./photos", epochs=10)``. The parameters are those of
    the command, with underscores for dashes. In a notebook, interrupting the kernel saves a checkpoint.

    Args:
        tracking_uri: the tracking store; by default MLflow's, else ``mlflow.db`` in the current folder.
        experiment: its experiment; by default MLflow's, else ``inversion``.
        tags: tags of the run in MLflow.
        comment: what the run is about.
        **parameters: the parameters of the run.

    Raises:
        UnknownNameError: a parameter, encoder, layer or decoder does not exist; the message names the nearest.
        RequestError: a value is not allowed, or data or weights are out of reach. Nothing was started.
        InterruptedRunError: the run was interrupted, and can be resumed.
    """
    given = {name: str(value) if isinstance(value, PathLike) else value for name, value in parameters.items()}
    labels = labels_of(tags, comment)
    config = check(parse_config(given))
    check_inputs(config)
    console = make_console()
    with stop_with_mlflow_run() as stop:
        connection = connect(tracking_uri, experiment)
        with progress_bars() as report:
            prepared = prepare(config, interruptible(report, stop))
        for fallback in prepared.plan.fallbacks:
            console.note(f"{fallback.short} ({fallback.remedy})")
        with ProgressBar(console, prepared.plan.config.epochs) as bar:
            result = run_alone(train_steps(prepared, with_retries(connection, stop), [bar], stop, labels=labels))
    return as_run(connection, result.run_id)


def find(run: str, tracking_uri: str | None = None, experiment: str | None = None) -> Run:
    """A finished run by its id, the beginning of one, its name, or ``STUDY/NAME``.

    Raises:
        RequestError: there is no such run, or there are several.
    """
    connection = connect(tracking_uri, experiment, create=False)
    return as_run(connection, choose_run(connection, run, everywhere=experiment is None).info.run_id)


def load(run: Run | str, device: str | None = None, tracking_uri: str | None = None, trust_code: bool = False
         ) -> InversionModel:
    """The trained model of a run, as ``Run.load``."""
    return (run if isinstance(run, Run) else find(run, tracking_uri)).load(device, trust_code)


def as_run(connection: Connection, run_id: str) -> Run:
    """The run of an id, as it is now."""
    run = find_run(connection, run_id)
    return Run(run.info.run_id, str(run.info.run_name), run.info.status, dict(run.data.params), dict(run.data.metrics),
               connection)


def as_picture(image: Tensor) -> Image.Image:
    """An image ``(3, H, W)`` in [0, 1] as Pillow's."""
    return Image.fromarray(to_uint8(image))
