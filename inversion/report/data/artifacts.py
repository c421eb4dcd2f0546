"""Artifacts of runs, fetched from the tracking server: what is missing or cannot be read is told, and stops nothing."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from inversion.errors import MissingArtifactError
from inversion.tracking.artifacts import download_artifact
from inversion.tracking.connection import Connection
from inversion.tracking.masking import first_line

_logger = logging.getLogger(__name__)


def fetch(connection: Connection, run_id: str, artifact: str, folder: Path) -> Path | None:
    """Downloads one artifact of a run; None if it has none of that name.

    Raises:
        InversionError: the server is away, or refuses: without its artifacts the report would be another one.
    """
    try:
        return download_artifact(run_id, artifact, folder, connection.client)
    except MissingArtifactError as error:
        _logger.info("%s", error)
        return None


def fetch_parquet(connection: Connection, run_id: str, artifact: str) -> pd.DataFrame | None:
    """A table among a run's artifacts; None if there is none, or it cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(connection, run_id, artifact, Path(folder))
        try:
            return pd.read_parquet(path) if path else None
        except (OSError, ValueError, pa.ArrowException) as error:
            _logger.warning("run %s: %s cannot be read: %s", run_id, artifact, first_line(error))
            return None


def fetch_list(connection: Connection, run_id: str, artifact: str) -> list[Any]:
    """A JSON list among a run's artifacts; empty if there is none, or it cannot be read."""
    try:
        found = json.loads(fetch_text(connection, run_id, artifact) or "[]")
    except (ValueError, RecursionError) as error:
        _logger.warning("run %s: %s cannot be read: %s", run_id, artifact, first_line(error))
        return []
    return found if isinstance(found, list) else []


def fetch_text(connection: Connection, run_id: str, artifact: str) -> str | None:
    """A text among a run's artifacts; None if there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(connection, run_id, artifact, Path(folder))
        return path.read_text(encoding="utf-8", errors="replace") if path else None
