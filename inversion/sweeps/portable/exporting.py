"""Exports a study: every run that MLflow has of it, and its queue."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.distributions import distribution_to_json
from optuna.trial import FrozenTrial, TrialState

import inversion
from inversion.errors import RequestError
from inversion.progress import Progress, no_progress
from inversion.sweeps.portable.archive import ARTIFACTS, FORMAT_VERSION, QUEUE_FILE, RUN_FILE, STUDY_FILE, writing
from inversion.sweeps.study.set_up import locate_queue
from inversion.sweeps.study.study import Study, find_queued
from inversion.tracking.connection import Connection
from inversion.tracking.search import search, tagged
from inversion.tracking.study import find_members, require_study

Keep = Literal["scores", "pictures", "best", "all"]

LEFT_OUT: dict[Keep, Sequence[str]] = {
    "scores": ("checkpoints/", "images/", "logs/", "reconstructions/", "report/"),
    "pictures": ("checkpoints/", "images/", "logs/", "report/"),
    "best": ("checkpoints/last.pt", "images/", "logs/", "report/"),
    "all": (),
}
"""Beginnings of the artifacts that are left out. Waiting and interrupted runs always keep their checkpoints."""


def export_study(connection: Connection, name: str, storage: str | None, path: Path, keep: Keep,
                 progress: Progress = no_progress) -> int:
    """Writes a study to a file; returns the number of its runs.

    Raises:
        RequestError: there is no such study, or one of its runs is being trained.
        OSError: the file cannot be written.
    """
    parent = require_study(connection, name)
    queued = find_queued(name, locate_queue(storage, connection, name))
    if queued is not None:
        _require_idle(queued)
    runs = _runs_of(connection, name, parent)
    with writing(path) as archive:
        archive.add_json(STUDY_FILE, {
            "format": FORMAT_VERSION, "inversion": inversion.__version__, "study": name,
            "experiment": connection.experiment, "experiment_id": connection.experiment_id,
            "parent": parent.info.run_id, "runs": [run.info.run_id for run in runs], "keep": keep})
        for done, run in enumerate(runs, start=1):
            archive.add_json(f"runs/{run.info.run_id}/{RUN_FILE}", _describe(connection, run))
            left_out = LEFT_OUT[keep] if run.info.status == "FINISHED" else ()
            with tempfile.TemporaryDirectory() as folder:
                _download(connection, run.info.run_id, Path(folder), left_out)
                archive.add_folder(f"runs/{run.info.run_id}/{ARTIFACTS}", Path(folder))
            progress("exporting runs", done, len(runs))
        if queued is not None:
            archive.add_json(QUEUE_FILE, _describe_queue(queued))
    return len(runs)


def _require_idle(study: Study) -> None:
    if running := [entry.name for entry in study.queue.entries() if entry.state == "running"]:
        raise RequestError(f"study {study.name} is being worked on: {len(running)} running, such as {running[0]}. Wait "
                           "for them, or stop the workers; the rest is exported as waiting.")


def _runs_of(connection: Connection, name: str, parent: Run) -> list[Run]:
    """The parent first, then the others from the oldest on; runs of the study are tagged with its name."""
    members = {run.info.run_id: run for run in find_members(connection, name)}
    for run in search(connection, tagged(MLFLOW_PARENT_RUN_ID, parent.info.run_id)):
        members.setdefault(run.info.run_id, run)
    members.pop(parent.info.run_id, None)
    return [parent, *sorted(members.values(), key=lambda run: (run.info.start_time, run.info.run_id))]


def _describe(connection: Connection, run: Run) -> dict[str, Any]:
    metrics = {key: [[metric.value, metric.timestamp, metric.step]
                     for metric in connection.client.get_metric_history(run.info.run_id, key)]
               for key in run.data.metrics}
    inputs = [{"dataset": dict(item.dataset), "tags": [{"key": tag.key, "value": tag.value} for tag in item.tags]}
              for item in run.inputs.dataset_inputs] if run.inputs else []
    return {"name": run.info.run_name, "status": run.info.status, "start_time": run.info.start_time,
            "end_time": run.info.end_time, "parameters": run.data.params, "tags": run.data.tags, "metrics": metrics,
            "inputs": inputs}


def _download(connection: Connection, run_id: str, folder: Path, left_out: Sequence[str]) -> None:
    """Downloads the artifacts of a run, file by file: some are not wanted."""
    waiting = [""]
    while waiting:
        for item in connection.client.list_artifacts(run_id, waiting.pop() or None):
            if f"{item.path}/".startswith(tuple(left_out)) or item.path in left_out:
                continue
            if item.is_dir:
                waiting.append(item.path)
            else:
                place = (folder / item.path).parent
                place.mkdir(parents=True, exist_ok=True)
                connection.client.download_artifacts(run_id, item.path, str(place))


def _describe_queue(study: Study) -> dict[str, Any]:
    optuna_study = study.queue.study
    return {"direction": optuna_study.direction.name, "user_attrs": optuna_study.user_attrs,
            "system_attrs": study.queue.storage.get_study_system_attrs(study.queue.study_id),
            "trials": [_describe_trial(trial) for trial in optuna_study.get_trials(deepcopy=False)]}


def _describe_trial(trial: FrozenTrial) -> dict[str, Any]:
    if trial.state == TrialState.RUNNING:
        raise RequestError(f"trial {trial.number} has just begun to run: wait for it, or stop the workers")
    return {
        "state": trial.state.name, "values": trial.values, "params": trial.params,
        "distributions": {name: distribution_to_json(each) for name, each in trial.distributions.items()},
        "user_attrs": trial.user_attrs, "system_attrs": trial.system_attrs,
        "intermediate_values": [[step, value] for step, value in trial.intermediate_values.items()],
        "datetime_start": trial.datetime_start and trial.datetime_start.isoformat(),
        "datetime_complete": trial.datetime_complete and trial.datetime_complete.isoformat(),
    }
