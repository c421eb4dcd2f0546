"""What a run left, fetched from the tracking server: its model and the scores of its test images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import yaml

from inversion.errors import RequestError
from inversion.tracking.artifacts import MissingArtifactError, download_artifact
from inversion.tracking.results import PER_IMAGE

_logger = logging.getLogger(__name__)


def fetch_packed(run_id: str, folder: Path) -> Path:
    """The packed model (``inversion.packing``) of a run, as a folder below ``folder``; the code beside it is left.

    Raises:
        RequestError: the run has no model.
    """
    try:
        description = yaml.safe_load(download_artifact(run_id, "model/MLmodel", folder).read_text())
        place = description["flavors"]["python_function"]["artifacts"]["packed"]["path"]
        return download_artifact(run_id, f"model/{place}", folder)
    except (MissingArtifactError, OSError, LookupError, TypeError) as error:
        _logger.info("run %s: %s", run_id, error)
        raise RequestError(f"run {run_id} has no artifact 'model' that inversion has logged") from error


def fetch_image_scores(run_id: str, folder: Path) -> list[dict[str, Any]]:
    """Every test image's logged scores, in order, with the keys image, psnr, ssim, lpips and mse.

    Raises:
        RequestError: the run has none.
    """
    try:
        file = download_artifact(run_id, f"metrics/{PER_IMAGE}", folder)
    except MissingArtifactError as error:
        raise RequestError(f"run {run_id} has no artifact metrics/{PER_IMAGE}") from error
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows
