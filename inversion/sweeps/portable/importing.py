"""Imports an exported study into a tracking store and a queue: new run ids, and the addresses of this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import optuna
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from optuna.distributions import json_to_distribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from inversion.config.run_config import parse_value
from inversion.errors import RequestError
from inversion.progress import Progress, no_progress
from inversion.sweeps.portable.archive import ARTIFACTS, QUEUE_FILE, RUN_FILE, extract
from inversion.sweeps.queue.entry import CONFIG
from inversion.sweeps.queue.storage import open_storage, require_place
from inversion.sweeps.study.parent import storage_tags
from inversion.sweeps.study.study import BASE, EXPERIMENT, PARENT, TRACKING, address_in_queue
from inversion.tracking.connection import Connection, connect, find_store
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import without_password
from inversion.tracking.study import STUDY, find_study, tag

T = TypeVar("T")
PLACES = ("data", "data_dir", "weights", "lpips_weights", "vgg_weights", "device", "threads")
"""Parameters that may be replaced: where things are, which no digest depends on."""

NOT_IMPORTED = ("mlflow.log-model", "inversion.storage")
"""Beginnings of tags that are about the other machine."""

MOST_METRICS, MOST_OTHERS = 1000, 100
"""MLflow's limits of a batch."""


def import_study(path: Path, name: str | None, places: Mapping[str, str], storage: str | None,
                 tracking_uri: str | None, experiment: str | None, progress: Progress = no_progress
                 ) -> tuple[str, int]:
    """Creates the runs and the queue of an exported study; returns its name, and the number of runs in MLflow.

    Args:
        path: the exported study.
        name: another name for it.
        places: parameters of the waiting runs to replace, such as ``data``.
        storage: the address of the queue; by default beside the tracking store.
        tracking_uri: the tracking store; by default the folder's.
        experiment: the experiment; by default the one that it was exported from.
        progress: called with the number of runs created.

    Raises:
        RequestError: the file is not an exported study, the store has a study of this name, or a place is not allowed.
    """
    check_places(places)
    url = require_place(storage, find_store(tracking_uri))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = extract(path, folder)
        new_name = name or str(study["study"])
        connection = connect(tracking_uri, experiment or str(study["experiment"]))
        opened = open_storage(url)
        with exclusive_lock(url):
            _require_new(connection, opened, new_name)
            importer = _Importer(connection, folder, study, new_name)
            importer.create(progress)
            importer.log_artifacts()
            if (queue := folder / QUEUE_FILE).is_file():
                parent = importer.ids[study["parent"]]
                tag(connection, parent, storage_tags(url))
                _import_queue(opened, json.loads(importer.translated(queue.read_text())), new_name, connection, parent,
                              places)
    return new_name, len(importer.ids)


def check_places(places: Mapping[str, str]) -> None:
    """Raises a RequestError if a parameter may not be replaced, or not by this value."""
    for name, value in places.items():
        if name not in PLACES:
            raise RequestError(f"--set {name}: only {', '.join(PLACES)} can be replaced, because results do not depend "
                               "on them. Queue other runs with inversion-sweep.")
        parse_value(name, value)


def _require_new(connection: Connection, storage: RDBStorage, name: str) -> None:
    place = None
    if find_study(connection, name) is not None:
        place = f"experiment {connection.experiment} in {without_password(connection.uri)}"
    elif name in optuna.get_all_study_names(storage):
        place = f"queue {without_password(storage.url)}"
    if place:
        raise RequestError(f"{place} has a study {name} already. Give the imported one another name with --study.")


class _Importer:
    """Creates the runs of a study, the parent first, with the new ids in place of the old ones wherever they stand."""

    def __init__(self, connection: Connection, folder: Path, study: Mapping[str, Any], name: str) -> None:
        self.connection = connection
        self.folder = folder
        self.study = study
        self.name = name
        self.ids: dict[str, str] = {}

    def create(self, progress: Progress) -> None:
        """Creates all runs, then writes their tags, which may name later ones."""
        runs = {old: json.loads((self.folder / "runs" / old / RUN_FILE).read_text()) for old in self.study["runs"]}
        for done, (old, run) in enumerate(runs.items(), start=1):
            self.ids[old] = self._create(run)
            progress("importing runs", done, len(runs))
        for old, run in runs.items():
            tags = [RunTag(key, self._tag(key, value)) for key, value in run["tags"].items()
                    if not key.startswith(NOT_IMPORTED)]
            for some in _batches(tags, MOST_OTHERS):
                self.connection.client.log_batch(self.ids[old], tags=some)
            self._end(self.ids[old], run, old == self.study["parent"])

    def _create(self, run: Mapping[str, Any]) -> str:
        client = self.connection.client
        created = client.create_run(self.connection.experiment_id, run["start_time"], run_name=run["name"])
        run_id: str = created.info.run_id
        for parameters in _batches([Param(key, value) for key, value in run["parameters"].items()], MOST_OTHERS):
            client.log_batch(run_id, params=parameters)
        points = [Metric(key, value, timestamp, step) for key, history in run["metrics"].items()
                  for value, timestamp, step in history]
        for metrics in _batches(points, MOST_METRICS):
            client.log_batch(run_id, metrics=metrics)
        if run["inputs"]:
            client.log_inputs(run_id, [DatasetInput(Dataset(**item["dataset"]),
                                                    [InputTag(each["key"], each["value"]) for each in item["tags"]])
                                       for item in run["inputs"]])
        return run_id

    def _end(self, run_id: str, run: Mapping[str, Any], is_parent: bool) -> None:
        """Gives a run its status; of one that was not ended, nobody works on it here."""
        if run["status"] not in ("RUNNING", "SCHEDULED"):
            self.connection.client.set_terminated(run_id, run["status"], run["end_time"])
        elif is_parent:
            self.connection.client.update_run(run_id, "SCHEDULED")
        else:
            self.connection.client.set_terminated(run_id, "KILLED", run["end_time"])

    def log_artifacts(self) -> None:
        """Logs the artifacts of all runs."""
        for old, new in self.ids.items():
            folder = self.folder / "runs" / old / ARTIFACTS
            for path in folder.glob("*.json"):
                path.write_text(self.translated(path.read_text(errors="surrogateescape")), errors="surrogateescape")
            if folder.is_dir():
                self.connection.client.log_artifacts(new, str(folder))

    def _tag(self, key: str, value: str) -> str:
        is_name = key == STUDY or (key == MLFLOW_RUN_NAME and value == self.study["study"])
        return self.name if is_name else self.translated(value)

    def translated(self, text: str) -> str:
        """A text with the new ids of runs and of the experiment."""
        for old, new in self.ids.items():
            text = text.replace(old, new)
        return text.replace(f"experiments/{self.study['experiment_id']}/",
                            f"experiments/{self.connection.experiment_id}/")


def _import_queue(storage: RDBStorage, queue: Mapping[str, Any], name: str, connection: Connection, parent: str,
                  places: Mapping[str, str]) -> None:
    study_id = storage.create_new_study([StudyDirection[queue["direction"]]], name)
    for key, value in queue["system_attrs"].items():
        storage.set_study_system_attr(study_id, key, value)
    for trial in queue["trials"]:
        storage.create_new_trial(study_id, _trial(trial, places))
    attributes = {**queue["user_attrs"], EXPERIMENT: connection.experiment, PARENT: parent}
    if isinstance(base := attributes.get(BASE), dict):
        attributes[BASE] = {**base, "config": _placed(base["config"], places)}
    attributes.pop(TRACKING, None)
    for key, value in attributes.items():
        storage.set_study_user_attr(study_id, key, value)
    storage.set_study_user_attr(study_id, TRACKING, address_in_queue(connection.uri))  # complete


def _trial(trial: Mapping[str, Any], places: Mapping[str, str]) -> FrozenTrial:
    attributes, state = dict(trial["user_attrs"]), TrialState[trial["state"]]
    if state == TrialState.WAITING and CONFIG in attributes:
        attributes[CONFIG] = _placed(attributes[CONFIG], places)
    values: Sequence[float] | None = trial["values"]
    return FrozenTrial(
        number=-1, trial_id=-1, state=state, value=None, values=values,
        datetime_start=_time(trial["datetime_start"]), datetime_complete=_time(trial["datetime_complete"]),
        params=trial["params"],
        distributions={name: json_to_distribution(text) for name, text in trial["distributions"].items()},
        user_attrs=attributes, system_attrs=trial["system_attrs"],
        intermediate_values={int(step): value for step, value in trial["intermediate_values"]})


def _placed(config: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    return {**config, **{name: parse_value(name, value) for name, value in places.items()}}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first:first + size]
