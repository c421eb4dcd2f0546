"""Reading a study from the tracking server."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
from mlflow.entities import Run

from inversion.tracking.connection import Connection
from inversion.tracking.lookup import search
from inversion.tracking.results import PER_IMAGE
from inversion.tracking.study import DIGEST, KIND, STUDY, children, require_study
from sweeps.parent_files import RUNS_FILE, SETTINGS_FILE
from sweeps.report.artifacts import fetch_list, fetch_parquet, fetch_text
from sweeps.report.study_data import ReportRun, StudyData

THREADS = 8
"""Artifacts are fetched side by side: each is a request of some milliseconds."""

COLUMNS = {"image", "psnr", "ssim", "lpips", "mse"}
"""What a run logs of each test image."""


def collect(connection: Connection, name: str) -> StudyData:
    """Reads a study from the tracking server, the scores of every test image included.

    Raises:
        RequestError: the experiment has no such study.
    """
    parent = require_study(connection, name)
    everything = list(children(connection, name))
    runs = _once_each(everything)
    references = list(search(connection, f"tags.`{KIND}` = 'optimize' and tags.`{STUDY}` = '{name}'"))
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(lambda run: _read(connection, run), [*runs, *references]))
    planned, settings = (fetch_list(connection, parent.info.run_id, name) for name in (RUNS_FILE, SETTINGS_FILE))
    there = {None, *(run.info.run_id for run in everything)}
    planned = [item | {"is_deleted": item.get("run_id") not in there} for item in planned]
    begun = sorted((run for run in read[:len(runs)] if run), key=lambda run: run.name)
    return StudyData(name, parent, begun, planned,
                     [run for run in read[len(runs):] if run], _specs(connection, parent.info.run_id), settings)


def histories(connection: Connection, run_ids: Mapping[str, str], metric: str) -> dict[str, list[tuple[int, float]]]:
    """A metric by epoch of several runs, given by label; values that are no finite numbers are left out."""
    def read(run_id: str) -> list[tuple[int, float]]:
        points = connection.client.get_metric_history(run_id, metric)
        return sorted((point.step, point.value) for point in points if math.isfinite(point.value))

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
    if "inversion.config" not in run.data.tags:  # killed before it was described
        return None
    scores = _scores(connection, run.info.run_id) if run.info.status == "FINISHED" else None
    return ReportRun(run, json.loads(run.data.tags["inversion.config"]), scores)


def _scores(connection: Connection, run_id: str) -> pd.DataFrame | None:
    """Every test image's scores; None where they are missing or not what a run logs."""
    scores = fetch_parquet(connection, run_id, f"metrics/{PER_IMAGE}")
    if scores is None or not COLUMNS.issubset(scores.columns):
        return None
    return scores if len(scores) and scores["image"].is_unique else None


def _specs(connection: Connection, run_id: str) -> dict[str, str]:
    """The spec files that the study was queued from, by name."""
    names = [item.path for item in connection.client.list_artifacts(run_id) if item.path.endswith((".yaml", ".yml"))]
    return {name: fetch_text(connection, run_id, name) or "" for name in names}
