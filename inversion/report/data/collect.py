"""Reading a study from the tracking server."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.entities import Run

from inversion.config.document import DocumentError, NoDocumentError
from inversion.errors import DamagedArtifactError, MissingArtifactError
from inversion.metrics import counted
from inversion.report.data.artifacts import fetch_list, fetch_text
from inversion.report.data.study_data import ReportRun, StudyData
from inversion.tracking.artifacts import RESTORE, require_artifacts
from inversion.tracking.connection import Connection
from inversion.tracking.results import PER_IMAGE, fetch_image_scores
from inversion.tracking.search import KIND, document_of, search
from inversion.tracking.study import DIGEST, RUNS_FILE, SETTINGS_FILE, STUDY, children, require_study

THREADS = 8
"""Artifacts are fetched side by side: each is a request of some milliseconds."""


def collect(connection: Connection, name: str) -> StudyData:
    """Reads a study from the tracking server, the scores of every test image included.

    Raises:
        RequestError: the experiment has no such study, or its artifacts are on another machine.
    """
    parent = require_study(connection, name)
    require_artifacts(parent)
    everything = list(children(connection, name))
    runs = _once_each(everything)
    references = list(search(connection, f"tags.`{KIND}` = 'optimize' and tags.`{STUDY}` = '{name}'"))
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda run: _read(connection, run), [*runs, *references]))
    planned, settings = (fetch_list(connection, parent.info.run_id, name) for name in (RUNS_FILE, SETTINGS_FILE))
    there = {None, *(run.info.run_id for run in everything)}
    planned = [item | {"is_deleted": item.get("run_id") not in there} for item in filter(_is_planned, planned)]
    begun = sorted((run for run in read[:len(runs)] if run), key=lambda run: run.name)
    return StudyData(name, parent, begun, planned,
                     [run for run in read[len(runs):] if run], _specs(connection, parent.info.run_id),
                     [said for said in settings if isinstance(said, str)])


def _is_planned(item: object) -> bool:
    """Whether an item of the list of queued runs is one."""
    return isinstance(item, dict) and "run" in item and "digest" in item and isinstance(item["digest"], str | None)


def histories(connection: Connection, run_ids: Mapping[str, str], metric: str) -> dict[str, list[tuple[int, float]]]:
    """PSNR by epoch of several runs, given by label; values that are no finite numbers are left out."""
    def read(run_id: str) -> list[tuple[int, float]]:
        points = connection.client.get_metric_history(run_id, metric)
        return sorted((point.step, float(counted(point.value))) for point in points if math.isfinite(point.value))

    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(run_ids, pool.map(read, run_ids.values()), strict=True))


def _once_each(runs: Iterable[Run]) -> list[Run]:
    """One run for each configuration: a FINISHED one before others, else the newest."""
    best: dict[str, Run] = {}
    for run in runs:
        digest = run.data.tags.get(DIGEST, run.info.run_id)
        if digest not in best or (best[digest].info.status != "FINISHED" and run.info.status == "FINISHED"):
            best[digest] = run
    return list(best.values())


def _read(connection: Connection, run: Run) -> ReportRun | None:
    try:
        document = document_of(run)
    except NoDocumentError:  # killed before it was described
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
    """Every test image's scores, PSNR as it counts.

    Raises:
        MissingArtifactError: there are none.
        DamagedArtifactError: they cannot be read, or are not of all the run's test images.
    """
    with tempfile.TemporaryDirectory() as folder:
        scores = pd.DataFrame(fetch_image_scores(run_id, Path(folder)))
    images = document["data"].get("images", {}).get("test")
    if images is not None and len(scores) != images:
        raise DamagedArtifactError(f"metrics/{PER_IMAGE} of run {run_id} is damaged: it has {len(scores)} images, and "
                                   f"the run was scored on {images}. {RESTORE}")
    return scores.assign(psnr=counted(scores["psnr"]), lpips=scores["lpips"].astype(float))


def _specs(connection: Connection, run_id: str) -> dict[str, str]:
    """The spec files that the study was queued from, by name."""
    names = [item.path for item in connection.client.list_artifacts(run_id) if item.path.endswith((".yaml", ".yml"))]
    return {name: fetch_text(connection, run_id, name) or "" for name in names}
