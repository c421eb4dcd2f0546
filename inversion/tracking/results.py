"""What a finished run leaves besides metrics: the data set as an input, scores of every image, the model."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec
from PIL import Image

import inversion
from inversion.config.resolve import Plan
from inversion.data.splits import PhotoSet
from inversion.files import safe_name
from inversion.models.model import InversionModel
from inversion.models.packing import pack_model
from inversion.tracking.run import TrackedRun, strip
from inversion.training.callbacks import Picture, Pixels
from inversion.training.evaluate import Scores

PER_IMAGE = "test_per_image.parquet"
SCORES_SCHEMA = pa.schema({"image": pa.string(), **dict.fromkeys(("psnr", "ssim", "lpips", "mse"), pa.float64())})
ALL_PICTURES = "test.parquet"
JPEG_QUALITY = 95
SERVED_MODEL = Path(__file__).with_name("served_model.py")
REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "numpy", "ptwt", "PyWavelets", "pydantic", "safetensors",
                "requests", "huggingface_hub")
"""What a logged model imports when it is loaded; inversion's own code travels with it."""


def log_data_set(run: TrackedRun, photos: PhotoSet, digest: str, counts: Mapping[str, int], context: str) -> None:
    """The photographs as an MLflow input; ``context`` is ``training`` or ``evaluation``.

    MLflow takes digests of at most 36 characters.
    """
    data_set = Dataset(name=photos.name, digest=digest[:32], source_type="local",
                       source=json.dumps({"uri": str(photos.root)}), profile=json.dumps(counts))
    run.client.log_inputs(run.run_id, [DatasetInput(data_set, [InputTag("mlflow.data.context", context)])])


def log_scores(run: TrackedRun, names: Sequence[str], scores: Scores) -> None:
    """Every test image's scores as ``metrics/test_per_image.parquet``; LPIPS is null when it is off."""
    lpips: Sequence[float | None] = scores.lpips or [None] * len(names)
    columns = {"image": names, "psnr": scores.psnr, "ssim": scores.ssim, "lpips": lpips, "mse": scores.mse}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / PER_IMAGE
        pq.write_table(pa.table(columns, schema=SCORES_SCHEMA), file)
        run.upload([file], "metrics")


def log_reconstructions(run: TrackedRun, pictures: Sequence[Picture]) -> list[str]:
    """Test images beside what the best epoch's decoder made of them, in ``reconstructions/``; returns file names."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, picture in enumerate(pictures, start=1):
            file = Path(folder) / f"{number}_{safe_name(str(Path(picture.name).with_suffix('')))}.png"
            Image.fromarray(strip(picture)).save(file)
            files.append(file)
        run.upload(files, "reconstructions")
        return [file.name for file in files]


def log_all_pictures(run: TrackedRun, pictures: Sequence[Picture]) -> None:
    """Test images and reconstructions as ``reconstructions/test.parquet``: what a report chooses its pictures from.

    Columns ``image``, ``original``, ``reconstruction``; the last two are JPEG files, about 20 kB each at 224 pixels.
    They are for looking at: the scores are those of the exact values.
    """
    columns = {"image": [picture.name for picture in pictures],
               "original": [_jpeg(picture.original) for picture in pictures],
               "reconstruction": [_jpeg(picture.reconstruction) for picture in pictures]}
    schema = pa.schema([("image", pa.string()), ("original", pa.binary()), ("reconstruction", pa.binary())])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / ALL_PICTURES
        pq.write_table(pa.table(columns, schema=schema), file)
        run.upload([file], "reconstructions")


def _jpeg(pixels: Pixels) -> bytes:
    """As a JPEG file without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def log_model(run: TrackedRun, plan: Plan, model: InversionModel) -> None:
    """The whole model as ``model``, for ``mlflow.pyfunc.load_model`` and ``mlflow models serve``."""
    config = plan.config
    shape = (-1, 3, config.image_size, config.image_size)
    tensor = TensorSpec(np.dtype(np.float32), shape)
    with tempfile.TemporaryDirectory() as folder, _quiet_mlflow():
        fusion = None if config.fusion == "none" else config.fusion
        pack_model(model, config.decoder, plan.options, fusion, config.image_size, Path(folder))
        # MLflow logs models only into the active run of the process; leaving the block would end the run.
        mlflow.start_run(run_id=run.run_id)
        try:
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(SERVED_MODEL),
                artifacts={"packed": folder},
                code_paths=[str(Path(inversion.__file__).parent)],
                signature=ModelSignature(Schema([tensor]), Schema([tensor])),
                pip_requirements=requirements(),
            )
        finally:
            mlflow.end_run("RUNNING")


def requirements() -> list[str]:
    """What a logged model needs, in the versions that are installed here, as PyPI has them.

    A local label (``2.14.1+cu124``) names a build that only the index it came from has; MLflow leaves it out as well.
    """
    return [f"{package}=={version(package).partition('+')[0]}" for package in REQUIREMENTS]


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """MLflow's advice on type hints and input examples is not for whoever trains."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True):  # a filter would not do: MLflow puts its own before it
            yield
    finally:
        logger.setLevel(level)
