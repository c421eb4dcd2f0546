"""A study's parent run in MLflow: which one it is, made again where it was deleted, with everything below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from inversion.sweeps.study.parent_files import copy_files
from inversion.sweeps.study.study import PARENT, Study
from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection
from inversion.tracking.evaluations import EVALUATES
from inversion.tracking.lifecycle import end_run, require_experiment
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import without_password
from inversion.tracking.ownership import BOOT, HOST, machine_tags
from inversion.tracking.search import KIND
from inversion.tracking.study import begin_study, find_study, tag

if TYPE_CHECKING:
    from mlflow.entities import Run

STORAGE_TAG, STORAGE_HOST, STORAGE_BOOT = "inversion.storage", "inversion.storage_host", "inversion.storage_boot"


def storage_tags(url: str) -> dict[str, str]:
    """Where the study's queue lies, as its parent run says it."""
    place = machine_tags()
    return {STORAGE_TAG: without_password(absolute(url)), STORAGE_HOST: place[HOST], STORAGE_BOOT: place.get(BOOT, "")}


def hold_parent(study: Study, connection: Connection) -> bool:
    """Sees to it that the study has a parent run; returns whether it is another one than before.

    One that was deleted is not brought back: that was somebody's decision. The new one has its files.

    Raises:
        ExperimentDeletedError: the whole experiment was deleted.
    """
    require_experiment(connection)
    known = study.parent.run_id
    run = find_study(connection, study.name)
    if run is not None and run.info.run_id == known:
        return False
    url = study.queue.storage.url
    with exclusive_lock(url):  # several drivers may miss it
        parent = begin_study(connection, study.name, storage_tags(url), known)
        study.queue.study.set_user_attr(PARENT, parent.run_id)
    if parent.run_id != known:
        copy_files(connection, known, parent.run_id)
    return parent.run_id != known


def put_below(connection: Connection, parent_id: str, members: Iterable[Run]) -> None:
    """Puts all that belongs to a study below its parent run, and ends parent runs that are none any more."""
    for run in members:
        tags, run_id = run.data.tags, run.info.run_id
        if run_id == parent_id or EVALUATES in tags:
            continue
        if tags.get(KIND) == "study":  # the first one was deleted, and brought back when there was another
            if run.info.status in ("RUNNING", "SCHEDULED"):
                end_run(connection.client, run_id, "KILLED", "interrupted", f"run {parent_id} is the study's run")
        elif tags.get(MLFLOW_PARENT_RUN_ID) != parent_id:
            tag(connection, run_id, {MLFLOW_PARENT_RUN_ID: parent_id})
