"""Reads a study from the tracking server: its runs, their scores, and artifacts such as pictures.

Missing or unreadable artifacts are logged and left out; a server that cannot be reached is an error.
"""

from __future__ import annotations

import json
import logging
import math
import shlex
import tempfile
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from mlflow.entities import Run

from inversion.config.document import DocumentError, NoDocumentError
from inversion.errors import DamagedArtifactError, MissingArtifactError
from inversion.metrics import METRICS, counted
from inversion.report.data.own_metrics import tell_apart
from inversion.report.data.study import ReportRun, StudyData
from inversion.tracking.artifacts import RESTORE, download_artifact, require_artifacts
from inversion.tracking.connection import Connection
from inversion.tracking.masking import first_line
from inversion.tracking.results import ALL_PICTURES, PER_IMAGE, fetch_image_scores
from inversion.tracking.search import EVALUATES, KIND, document_of, finished_evaluations, search, tagged
from inversion.tracking.study import DIGEST, RUNS_FILE, SETTINGS_FILE, STUDY, children, require_study

THREADS = 8
"""Number of artifacts downloaded in parallel."""

JPEG, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
"""First and last bytes of a JPEG file; a truncated file lacks the last ones."""

Pictures = dict[str, tuple[bytes, bytes]]
"""Original and reconstruction as JPEG files, by image name."""

_logger = logging.getLogger(__name__)


def collect(connection: Connection, name: str) -> StudyData:
    """Reads a study from the tracking server, including the scores of every test image.

    Raises:
        RequestError: the experiment has no such study, or its artifacts are on another machine.
    """
    parent = require_study(connection, name)
    require_artifacts(parent)
    everything = list(children(connection, name))
    runs = _once_each(everything)
    references = list(search(connection, f"{tagged(KIND, 'optimize')} and {tagged(STUDY, name)}"))
    evaluations = _evaluations(connection, {run.info.run_id for run in runs})
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda run: _read(connection, run), [*runs, *references, *evaluations]))
    planned, settings = (fetch_list(connection, parent.info.run_id, name) for name in (RUNS_FILE, SETTINGS_FILE))
    there = {None, *(run.info.run_id for run in everything)}
    planned = [item | {"is_deleted": item.get("run_id") not in there} for item in filter(_is_planned, planned)]
    begun = tell_apart(sorted((run for run in read[:len(runs)] if run), key=lambda run: run.name))
    said = [text for text in settings if isinstance(text, str)]
    others = [run for run in read[len(runs):len(runs) + len(references)] if run]
    return StudyData(name, parent, begun, planned, others, fetch_specs(connection, parent.info.run_id, said), said,
                     [run for run in read[len(runs) + len(references):] if run])


def _evaluations(connection: Connection, run_ids: Collection[str]) -> list[Run]:
    """The finished evaluations of some runs, newest first."""
    return [run for run in finished_evaluations(connection) if run.data.tags.get(EVALUATES) in run_ids]


def _is_planned(item: object) -> bool:
    """Whether an item of the list of queued runs is well-formed."""
    return isinstance(item, dict) and "run" in item and "digest" in item and isinstance(item["digest"], str | None)


def histories(connection: Connection, run_ids: Mapping[str, str], metric: str) -> dict[str, list[tuple[int, float]]]:
    """A metric (PSNR) by epoch for several runs, by label; values that are not finite are dropped."""
    def read(run_id: str) -> list[tuple[int, float]]:
        points = connection.client.get_metric_history(run_id, metric)
        return sorted((point.step, float(counted(point.value))) for point in points if math.isfinite(point.value))

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(run_ids, pool.map(read, run_ids.values()), strict=True))


def _once_each(runs: Iterable[Run]) -> list[Run]:
    """One run per digest: a FINISHED one if there is one, else the newest."""
    best: dict[str, Run] = {}
    for run in runs:
        digest = run.data.tags.get(DIGEST, run.info.run_id)
        if digest not in best or (best[digest].info.status != "FINISHED" and run.info.status == "FINISHED"):
            best[digest] = run
    return list(best.values())


def _read(connection: Connection, run: Run) -> ReportRun | None:
    try:
        document = document_of(run)
    except NoDocumentError:  # killed before its configuration was logged
        return None
    except DocumentError as error:
        return ReportRun(run, {}, problem=str(error))
    if run.info.status != "FINISHED":
        return ReportRun(run, document)
    try:
        return ReportRun(run, document, _scores(run.info.run_id, document))
    except (DamagedArtifactError, MissingArtifactError) as error:
        return ReportRun(run, document, problem=str(error))


def _scores(run_id: str, document: Mapping[str, Any]) -> pd.DataFrame:
    """The scores of every test image, with PSNR capped as in every mean.

    Raises:
        MissingArtifactError: the run has no scores.
        DamagedArtifactError: the scores cannot be read, or do not cover all test images of the run.
    """
    with tempfile.TemporaryDirectory() as folder:
        scores = pd.DataFrame(fetch_image_scores(run_id, Path(folder)))
    images = document["data"].get("images", {}).get("test")
    if images is not None and len(scores) != images:
        raise DamagedArtifactError(f"metrics/{PER_IMAGE} of run {run_id} is damaged: it has {len(scores)} images, and "
                                   f"the run was scored on {images}. {RESTORE}")
    numbers = {name: scores[name].astype(float) for name in METRICS}
    return scores.assign(**numbers | {"psnr": counted(scores["psnr"])})


def fetch_specs(connection: Connection, run_id: str, settings: Iterable[str]) -> dict[str, str]:
    """The spec files that the study was queued from, by name; one that ``settings`` names need not end in ``.yaml``."""
    given = {words[0] for text in settings if (words := _words(text))}
    names = [item.path for item in connection.client.list_artifacts(run_id)
             if not item.is_dir and (item.path.endswith((".yaml", ".yml")) or item.path in given)]
    return {name: fetch_text(connection, run_id, name) or "" for name in names}


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # a quotation mark without its other one: the list was edited
        return []


def pictures_of(connection: Connection, run_id: str) -> Pictures | None:
    """The pictures of a run; None if it logged none, or they cannot be read."""
    table = fetch_parquet(connection, run_id, f"reconstructions/{ALL_PICTURES}")
    if table is None:
        return None
    if not _has_pictures(table):
        _logger.warning("run %s: reconstructions/%s is damaged; its pictures are not shown", run_id, ALL_PICTURES)
        return None
    return dict(zip(table["image"], zip(table["original"], table["reconstruction"], strict=True), strict=True))


def _has_pictures(table: pd.DataFrame) -> bool:
    """Whether a table looks like one that ``results.log_all_pictures`` wrote, checked without decoding the pictures."""
    files = ("original", "reconstruction")
    if not {"image", *files}.issubset(table.columns) or not table["image"].is_unique:
        return False
    return all(isinstance(file, bytes) and file.startswith(JPEG) and file.rstrip(b"\0").endswith(JPEG_END)
               for name in files for file in table[name])


def fetch(connection: Connection, run_id: str, artifact: str, folder: Path) -> Path | None:
    """Downloads an artifact of a run; None if it does not exist.

    Raises:
        InversionError: the server cannot be reached, or refuses the request. The report would be incomplete.
    """
    try:
        return download_artifact(run_id, artifact, folder, connection.client)
    except MissingArtifactError as error:
        _logger.info("%s", error)
        return None


def fetch_parquet(connection: Connection, run_id: str, artifact: str) -> pd.DataFrame | None:
    """A Parquet artifact of a run; None if it does not exist or cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(connection, run_id, artifact, Path(folder))
        try:
            return pd.read_parquet(path) if path else None
        except (OSError, ValueError, pa.ArrowException) as error:
            _logger.warning("run %s: %s cannot be read: %s", run_id, artifact, first_line(error))
            return None


def fetch_list(connection: Connection, run_id: str, artifact: str) -> list[Any]:
    """A JSON list artifact of a run; empty if it does not exist or cannot be read."""
    try:
        found = json.loads(fetch_text(connection, run_id, artifact) or "[]")
    except (ValueError, RecursionError) as error:
        _logger.warning("run %s: %s cannot be read: %s", run_id, artifact, first_line(error))
        return []
    return found if isinstance(found, list) else []


def fetch_text(connection: Connection, run_id: str, artifact: str) -> str | None:
    """A text artifact of a run; None if it does not exist."""
    with tempfile.TemporaryDirectory() as folder:
        path = fetch(connection, run_id, artifact, Path(folder))
        return path.read_text(encoding="utf-8", errors="replace") if path else None
