"""What a run left, fetched from the tracking server: its model and the scores of its test images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import mlflow
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import yaml
from mlflow.exceptions import MlflowException

from inversion.errors import RequestError
from inversion.tracking.connection import raise_unless_missing
from inversion.tracking.results import PER_IMAGE

_logger = logging.getLogger(__name__)


def fetch_packed(run_id: str, folder: Path) -> Path:
    """The packed model (``inversion.packing``) of a run, as a folder below ``folder``; the code beside it is left.

    Raises:
        RequestError: the run has no model.
    """
    try:
        description = yaml.safe_load(_fetch(f"runs:/{run_id}/model/MLmodel", folder).read_text())
        place = description["flavors"]["python_function"]["artifacts"]["packed"]["path"]
        return _fetch(f"runs:/{run_id}/model/{place}", folder)
    except (MlflowException, OSError, LookupError, TypeError) as error:
        raise_unless_missing(error)
        _logger.info("run %s: %s", run_id, error)
        raise RequestError(f"run {run_id} has no artifact 'model' that inversion has logged") from error


def fetch_image_scores(run_id: str, folder: Path) -> list[dict[str, Any]]:
    """Every test image's logged scores, in order, with the keys image, psnr, ssim, lpips and mse.

    Raises:
        RequestError: the run has none.
    """
    try:
        file = _fetch(f"runs:/{run_id}/metrics/{PER_IMAGE}", folder)
    except (MlflowException, OSError) as error:
        raise_unless_missing(error)
        raise RequestError(f"run {run_id} has no artifact metrics/{PER_IMAGE}") from error
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def _fetch(uri: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
