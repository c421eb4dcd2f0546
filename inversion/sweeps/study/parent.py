"""The parent run of a study in MLflow: its tags, its files, its children, and its replacement when it was deleted."""

from __future__ import annotations

import json
import logging
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from inversion.models.part_files import find_all
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.tuning import Tuning
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.study.study import PARENT, Study
from inversion.tracking.address import absolute
from inversion.tracking.artifacts import download_artifact
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import end_run, require_experiment
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import first_line, without_password
from inversion.tracking.ownership import BOOT, HOST, machine_tags
from inversion.tracking.search import EVALUATES, KIND
from inversion.tracking.study import RUNS_FILE, SETTINGS_FILE, begin_study, find_study, tag

if TYPE_CHECKING:
    from mlflow.entities import Run

STORAGE_TAG, STORAGE_HOST, STORAGE_BOOT = "inversion.storage", "inversion.storage_host", "inversion.storage_boot"

_logger = logging.getLogger(__name__)


def storage_tags(url: str) -> dict[str, str]:
    """Tags of the parent run that say where the study's queue is."""
    place = machine_tags()
    return {STORAGE_TAG: without_password(absolute(url)), STORAGE_HOST: place[HOST], STORAGE_BOOT: place.get(BOOT, "")}


def ensure_parent(study: Study, connection: Connection) -> bool:
    """Creates a new parent run if the study's was deleted; returns whether it was replaced.

    A deleted parent run is not restored, because a user decided to delete it. The new one gets its files.

    Raises:
        ExperimentDeletedError: the whole experiment was deleted.
    """
    require_experiment(connection)
    known = study.parent.run_id
    run = find_study(connection, study.name)
    if run is not None and run.info.run_id == known:
        return False
    url = study.queue.storage.url
    with exclusive_lock(url):  # several drivers may do this at the same time
        parent = begin_study(connection, study.name, {**storage_tags(url), **study.parent.labels}, known)
        study.queue.study.set_user_attr(PARENT, parent.run_id)
    if parent.run_id != known:
        copy_files(connection, known, parent.run_id)
    return parent.run_id != known


def put_below(connection: Connection, parent_id: str, members: Iterable[Run]) -> None:
    """Makes all runs of a study children of its parent run, and ends former parent runs."""
    for run in members:
        tags, run_id = run.data.tags, run.info.run_id
        if run_id == parent_id or EVALUATES in tags:
            continue
        if tags.get(KIND) == "study":  # it was deleted, replaced, and then restored
            if run.info.status in ("RUNNING", "SCHEDULED"):
                end_run(connection.client, run_id, "KILLED", "interrupted", f"run {parent_id} is the study's run")
        elif tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
            tag(connection, run_id, {MLFLOW_PARENT_RUN_ID: parent_id})


def log_spec(connection: Connection, run_id: str, spec: Spec) -> None:
    """Logs the spec as it was written, and the options that the command line added."""
    connection.client.log_text(run_id, spec.text, spec.path.name)
    words = [spec.path.name, *(word for text in spec.sets for word in ("--set", text)),
             *(word for text in spec.wheres for word in ("--where", text))]
    command = shlex.join(words)
    before = _settings(connection, run_id)
    if command not in before:
        connection.client.log_text(run_id, json.dumps([*before, command], indent=1), SETTINGS_FILE)


def log_code(connection: Connection, run_id: str, parts: Iterable[str]) -> None:
    """Logs the files of parts that are in files of a user's own, to be read before they are trusted."""
    for file in find_all(parts):
        connection.client.log_text(run_id, file.content.decode(), file.artifact)


def log_runs(connection: Connection, run_id: str, entries: Sequence[Entry], tuning: Tuning) -> None:
    """Logs the runs of the queue. A search's trials have a digest only once they have started.

    A run with a ``run_id`` has started: if MLflow has none with this id, it was deleted. ``trial`` is its number in
    Optuna. Of a tuned configuration, ``group`` is equal for all values and seeds, and ``value`` for all seeds of one
    value. A run that a grid's pruner stopped has the name of the pruner as ``pruned_by``, and the ``epoch`` after which
    it was stopped: 0 if another seed of its configuration was, and it did not begin.
    """
    runs = [{"run": entry.name, "digest": entry.digest, "config": entry.trial.user_attrs.get("config"),
             "run_id": entry.run_id, "trial": entry.root, **_tuned(entry, tuning), **_pruned(entry)}
            for entry in entries]
    connection.client.log_text(run_id, json.dumps(runs, indent=1), RUNS_FILE)


def _tuned(entry: Entry, tuning: Tuning) -> dict[str, Any]:
    run = tuning.runs.get(entry.digest or "")
    return {"group": run.group, "value": run.value, "not_chosen": entry.state == "not chosen"} if run else {}


def _pruned(entry: Entry) -> dict[str, Any]:
    return {"pruned_by": entry.pruned_by, "epoch": entry.epoch} if entry.pruned_by else {}


def copy_files(connection: Connection, from_id: str, to_id: str) -> None:
    """Copies the files of a deleted parent run to the new one, if MLflow still has them."""
    client = connection.client
    try:
        with tempfile.TemporaryDirectory() as folder:
            for item in client.list_artifacts(from_id):
                if not item.is_dir:
                    client.log_artifact(to_id, client.download_artifacts(from_id, item.path, folder))
    except (MlflowException, OSError) as error:
        _logger.info("the files of run %s were not copied: %s", from_id, first_line(error))


def _settings(connection: Connection, run_id: str) -> list[Any]:
    if not any(item.path == SETTINGS_FILE for item in connection.client.list_artifacts(run_id)):
        return []
    with tempfile.TemporaryDirectory() as folder:
        content = download_artifact(run_id, SETTINGS_FILE, Path(folder), connection.client).read_bytes()
    try:
        settings = json.loads(content)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        _logger.warning("%s of run %s is damaged and will be replaced: %s", SETTINGS_FILE, run_id, error)
        return []
    return settings if isinstance(settings, list) else []
