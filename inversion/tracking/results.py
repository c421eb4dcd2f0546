"""What a finished run leaves besides metrics, written and read: data set, scores of every image, pictures, model."""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.models.signature import ModelSignature
from mlflow.types import Schema, TensorSpec
from PIL import Image

import inversion
from inversion.config.parts import packages_of
from inversion.config.resolve import Plan
from inversion.data.splits import PhotoSet
from inversion.errors import DamagedArtifactError, MissingArtifactError
from inversion.files import safe_name
from inversion.metrics import FLOORS, FURTHER, floor_column
from inversion.models.model import InversionModel
from inversion.models.packing import pack_model
from inversion.models.part_files import Reference, find_all
from inversion.tracking.artifacts import RESTORE, download_artifact
from inversion.tracking.masking import first_line
from inversion.tracking.pictures import strip
from inversion.tracking.tracked_run import TrackedRun
from inversion.training.callbacks import Picture, Pixels
from inversion.training.evaluate import Scores

PER_IMAGE = "test_per_image.parquet"
FLOOR_COLUMNS = {floor_column(name): name for name in FLOORS}
LATER = (*FURTHER, *FLOOR_COLUMNS)
"""Columns that files of earlier versions do not have."""
SCORES_SCHEMA = pa.schema({"image": pa.string(),
                           **dict.fromkeys(("psnr", "ssim", "lpips", "mse", *LATER), pa.float64())})
MAY_BE_EMPTY = frozenset({"lpips", *LATER})
"""Columns that not every run has values for."""

JPEG_PER_IMAGE = "jpeg_per_image.parquet"
JPEG_SCHEMA = pa.schema({"image": pa.string(), "quality": pa.int64(),
                         **dict.fromkeys(("bits_per_pixel", "scan_bits_per_pixel", "psnr"), pa.float64())})
ALL_PICTURES = "test.parquet"
JPEG_QUALITY = 95
SERVED_MODEL = Path(__file__).with_name("served_model.py")
REQUIREMENTS = ("mlflow", "torch", "torchvision", "timm", "numpy", "ptwt", "PyWavelets", "pydantic", "safetensors",
                "requests", "huggingface_hub")
"""What a logged model imports when it is loaded; inversion's own code is logged with it."""


def log_data_set(run: TrackedRun, photos: PhotoSet, digest: str, counts: Mapping[str, int], context: str) -> None:
    """Logs the images as an MLflow dataset input; ``context`` is ``training`` or ``evaluation``.

    MLflow accepts digests of at most 36 characters.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
        InterruptedRunError: a stop was requested while the store was unreachable.
    """
    data_set = Dataset(name=photos.name, digest=digest[:32], source_type="local",
                       source=json.dumps({"uri": str(photos.root)}), profile=json.dumps(counts))
    run.client.log_inputs(run.run_id, [DatasetInput(data_set, [InputTag("mlflow.data.context", context)])])


def log_code(run: TrackedRun, parts: Sequence[str]) -> None:
    """Logs the files of those of the run's parts that are in files of a user's own, as ``code/DIGEST/FILE``.

    Raises:
        MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``TrackedRun.upload``.
    """
    with tempfile.TemporaryDirectory() as folder:
        for file in find_all(parts):
            place = Path(folder) / file.artifact
            place.parent.mkdir(parents=True)
            place.write_bytes(file.content)
            run.upload([place], str(Path(file.artifact).parent))


def fetch_code(run_id: str, part: Reference) -> bytes:
    """The content of a file that ``log_code`` has logged.

    Raises:
        MissingArtifactError: the run does not have it.
    """
    with tempfile.TemporaryDirectory() as folder:
        return download_artifact(run_id, part.artifact, Path(folder)).read_bytes()


def log_scores(run: TrackedRun, names: Sequence[str], scores: Scores,
               floors: Mapping[str, Sequence[float]] | None = None) -> None:
    """Logs the scores of every test image as ``metrics/test_per_image.parquet``; scores not computed are null.

    ``floors`` has the PSNR of each image by the name of a floor (``training.floors``).

    Raises:
        MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``TrackedRun.upload``.
    """
    computed = vars(scores) | scores.own | {column: (floors or {}).get(name) for column, name in FLOOR_COLUMNS.items()}
    schema = with_own(scores.own)
    columns = {name: names if name == "image" else computed[name] or [None] * len(names) for name in schema.names}
    _upload_table(run, pa.table(columns, schema=schema), f"metrics/{PER_IMAGE}")


def with_own(names: Iterable[str]) -> pa.Schema:
    """``SCORES_SCHEMA`` with a column for each metric of a user's own."""
    return pa.schema([*SCORES_SCHEMA, *(pa.field(name, pa.float64()) for name in names)])


def log_jpeg(run: TrackedRun, rows: Sequence[tuple[str, int, float, float, float]]) -> None:
    """Logs JPEG's rates and PSNR of every test image as ``metrics/jpeg_per_image.parquet``.

    Raises:
        MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``TrackedRun.upload``.
    """
    columns = dict(zip(JPEG_SCHEMA.names, zip(*rows, strict=True), strict=True))
    _upload_table(run, pa.table(columns, schema=JPEG_SCHEMA), f"metrics/{JPEG_PER_IMAGE}")


def log_reconstructions(run: TrackedRun, pictures: Sequence[Picture]) -> list[str]:
    """Logs test images beside the best epoch's reconstructions in ``reconstructions/``; returns the file names.

    Raises:
        MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``TrackedRun.upload``.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, picture in enumerate(pictures, start=1):
            file = Path(folder) / f"{number}_{safe_name(str(Path(picture.name).with_suffix('')))}.png"
            Image.fromarray(strip(picture)).save(file)
            files.append(file)
        run.upload(files, "reconstructions")
        return [file.name for file in files]


def log_all_pictures(run: TrackedRun, pictures: Sequence[Picture]) -> None:
    """Logs all test images and reconstructions as ``reconstructions/test.parquet``, from which reports take pictures.

    Columns ``image``, ``original``, ``reconstruction``; the last two are JPEG files, about 20 kB each at 224 pixels.
    They are for viewing only: scores are computed from the exact values.

    Raises:
        MlflowException, requests.RequestException, OSError, InterruptedRunError: as ``TrackedRun.upload``.
    """
    columns = {"image": [picture.name for picture in pictures],
               "original": [_jpeg(picture.original) for picture in pictures],
               "reconstruction": [_jpeg(picture.reconstruction) for picture in pictures]}
    schema = pa.schema([("image", pa.string()), ("original", pa.binary()), ("reconstruction", pa.binary())])
    _upload_table(run, pa.table(columns, schema=schema), f"reconstructions/{ALL_PICTURES}")


def _upload_table(run: TrackedRun, table: pa.Table, path: str) -> None:
    """Logs a table as the Parquet file ``path`` of the run's artifacts; raises what ``TrackedRun.upload`` does."""
    place, _, name = path.rpartition("/")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        pq.write_table(table, file)
        run.upload([file], place)


def _jpeg(pixels: Pixels) -> bytes:
    """The pixels as a JPEG file without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def log_model(run: TrackedRun, plan: Plan, model: InversionModel) -> str | None:
    """Logs the whole model as ``model``, for ``mlflow.pyfunc.load_model`` and ``mlflow models serve``; returns its id.

    Raises:
        MlflowException, requests.RequestException, OSError: the store is unreachable or rejects the model;
            ``to_inversion_error`` converts errors of stores. MLflow retries on its own, and cannot be interrupted.
    """
    config = plan.config
    shape = (-1, 3, config.image_size, config.image_size)
    tensor = TensorSpec(np.dtype(np.float32), shape)
    with tempfile.TemporaryDirectory() as folder, _quiet_mlflow():
        fusion = None if config.fusion == "none" else config.fusion
        pack_model(model, config.decoder, plan.options, fusion, config.image_size, Path(folder), plan.fusion_options)
        # MLflow logs models only into the active run of the process; its context manager would end the run
        mlflow.start_run(run_id=run.run_id)
        try:
            logged = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(SERVED_MODEL),
                artifacts={"packed": folder},
                code_paths=[str(Path(inversion.__file__).parent)],
                signature=ModelSignature(Schema([tensor]), Schema([tensor])),
                pip_requirements=requirements(config.model_parts),
            )
        finally:
            mlflow.end_run("RUNNING")
    model_id: str | None = logged.model_id
    return model_id


def requirements(parts: Sequence[str] = ()) -> list[str]:
    """The requirements of a logged model, pinned to the installed versions; also those of parts from outside.

    Local version labels (``2.14.1+cu124``) are left out, as MLflow does: PyPI does not have such builds.
    """
    known = {package.lower() for package in REQUIREMENTS}
    further = sorted(package for package in packages_of(parts) if package.lower() not in known)
    return [f"{package}=={version(package).partition('+')[0]}" for package in (*REQUIREMENTS, *further)]


@contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Suppresses MLflow's hints on type hints and input examples, which are not for users of ``train``."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(record=True):  # not a filter: MLflow inserts its own before it
            yield
    finally:
        logger.setLevel(level)


def fetch_packed(run_id: str, folder: Path) -> Path:
    """Downloads the packed model (``models.packing``) of a run, without its code, to a folder below ``folder``.

    Raises:
        MissingArtifactError: the run has no model.
        DamagedArtifactError: its ``MLmodel`` was not written by inversion; the message begins with the file's name.
    """
    try:
        description = download_artifact(run_id, "model/MLmodel", folder)
    except MissingArtifactError as error:
        raise MissingArtifactError(f"run {run_id} has no artifact 'model' that inversion has logged") from error
    return download_artifact(run_id, f"model/{_packed_path(description)}", folder)


def fetch_image_scores(run_id: str, folder: Path) -> list[dict[str, Any]]:
    """The logged scores of every test image, in order, with the columns of ``SCORES_SCHEMA`` as keys, and those of
    metrics of the user's own.

    Raises:
        MissingArtifactError: the run has none.
        DamagedArtifactError: they cannot be read.
    """
    artifact = f"metrics/{PER_IMAGE}"
    file = download_artifact(run_id, artifact, folder)
    try:
        rows: list[dict[str, Any]] = read_image_scores(file).to_pylist()
    except (ValueError, OSError, pa.ArrowException) as error:
        raise DamagedArtifactError(f"{artifact} of run {run_id} is damaged: {first_line(error)}. {RESTORE}") from error
    return rows


def read_image_scores(file: Path) -> pa.Table:
    """Reads a file that ``log_scores`` has written, and checks its columns and types.

    Raises:
        ValueError, OSError, pa.ArrowException: the file is damaged or of another kind.
    """
    table = pq.read_table(file)
    for name in SCORES_SCHEMA.names:
        if name not in table.column_names:
            if name not in LATER:
                raise ValueError(f"it has no column {name}")
            table = table.append_column(name, pa.nulls(len(table)))
    own = [field.name for field in table.schema
           if field.name not in SCORES_SCHEMA.names and pa.types.is_floating(field.type)]
    schema = with_own(own)
    table = table.select(schema.names)
    for field, column in zip(schema, table.columns, strict=True):
        if column.type != field.type and not pa.types.is_null(column.type) and not _widens(column.type, field.type):
            raise ValueError(f"its column {field.name} has the type {column.type}, and not {field.type}")
        if field.name not in MAY_BE_EMPTY and column.null_count:
            raise ValueError(f"its column {field.name} has empty cells, which are not finite numbers")
    if not len(table):
        raise ValueError("it has no rows")
    if len(table.column("image").unique()) != len(table):
        raise ValueError("it has an image twice")
    return table.cast(schema)


def _packed_path(description: Path) -> str:
    """The artifact path of the packed model, from a logged model's ``MLmodel``.

    Raises:
        DamagedArtifactError: the file has no such path.
    """
    try:
        place = yaml.safe_load(description.read_bytes())["flavors"]["python_function"]["artifacts"]["packed"]["path"]
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DamagedArtifactError("MLmodel is damaged, or was not logged by inversion") from error
    if not isinstance(place, str) or not place:
        raise DamagedArtifactError(f"MLmodel is damaged: the path of its artifact is {place!r}")
    return place


def _widens(found: pa.DataType, expected: pa.DataType) -> bool:
    """Whether a column type can be cast to another without loss: large strings, smaller floats."""
    strings = pa.types.is_string(expected) and pa.types.is_large_string(found)
    return bool(strings or (pa.types.is_floating(expected) and pa.types.is_floating(found)))
