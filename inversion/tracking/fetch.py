"""What a run left, fetched from the tracking server: its model and the scores of its test images."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import yaml

from inversion.errors import DamagedArtifactError, MissingArtifactError
from inversion.tracking.artifacts import download_artifact
from inversion.tracking.masking import first_line
from inversion.tracking.results import PER_IMAGE, SCORES_SCHEMA

RESTORE = "Restore it from a copy of the store, or train the run's configuration again."
"""What to do about an artifact that is gone or damaged."""

_logger = logging.getLogger(__name__)


def fetch_packed(run_id: str, folder: Path) -> Path:
    """The packed model (``models.packing``) of a run, as a folder below ``folder``; the code beside it is left.

    Raises:
        MissingArtifactError: the run has no model.
        DamagedArtifactError: its description is none of ours; the message begins with the file's name.
    """
    try:
        description = download_artifact(run_id, "model/MLmodel", folder)
    except MissingArtifactError as error:
        raise MissingArtifactError(f"run {run_id} has no artifact 'model' that inversion has logged") from error
    return download_artifact(run_id, f"model/{_place_of_packed(description)}", folder)


def fetch_image_scores(run_id: str, folder: Path) -> list[dict[str, Any]]:
    """Every test image's logged scores, in order, with the keys image, psnr, ssim, lpips and mse.

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
    """The table of every test image's scores in a file, with the columns and types that ``results.log_scores`` gives.

    Raises:
        ValueError, OSError, pa.ArrowException: it is none.
    """
    table = pq.read_table(file)
    if absent := [name for name in SCORES_SCHEMA.names if name not in table.column_names]:
        raise ValueError(f"it has no column {absent[0]}")
    table = table.select(SCORES_SCHEMA.names)
    for field, column in zip(SCORES_SCHEMA, table.columns, strict=True):
        if column.type != field.type and not pa.types.is_null(column.type) and not _widens(column.type, field.type):
            raise ValueError(f"its column {field.name} has the type {column.type}, and not {field.type}")
        if field.name != "lpips" and column.null_count:
            raise ValueError(f"its column {field.name} has empty cells, which are not finite numbers")
    if not len(table):
        raise ValueError("it has no rows")
    if len(table.column("image").unique()) != len(table):
        raise ValueError("an image is there twice")
    return table.cast(SCORES_SCHEMA)


def fetch_text(run_id: str, artifact: str) -> str:
    """A text among a run's artifacts; bytes that are no UTF-8 are replaced: whoever parses it says what is wrong.

    Raises:
        MissingArtifactError: the run has none of that name.
    """
    with tempfile.TemporaryDirectory() as folder:
        return download_artifact(run_id, artifact, Path(folder)).read_text(encoding="utf-8", errors="replace")


def _place_of_packed(description: Path) -> str:
    """Where a logged model keeps what ``inversion.models.packing`` wrote.

    Raises:
        DamagedArtifactError: the description does not say.
    """
    try:
        place = yaml.safe_load(description.read_bytes())["flavors"]["python_function"]["artifacts"]["packed"]["path"]
    except (yaml.YAMLError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DamagedArtifactError("MLmodel is damaged, or not of a model that inversion has logged") from error
    if not isinstance(place, str) or not place:
        raise DamagedArtifactError(f"MLmodel is damaged: the path of its artifact is {place!r}")
    return place


def _widens(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column of one type can be read as another without a loss: large texts, smaller floats."""
    texts = pa.types.is_string(wanted) and pa.types.is_large_string(found)
    return bool(texts or (pa.types.is_floating(wanted) and pa.types.is_floating(found)))
