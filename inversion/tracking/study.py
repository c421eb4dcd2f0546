"""A study in MLflow: a parent run, its children, and which of them has done what."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mlflow.entities import Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

from inversion.errors import RequestError, UnknownNameError
from inversion.tracking.connection import Connection, without_password
from inversion.tracking.lifecycle import create_run, take_over
from inversion.tracking.lookup import PAGE, pages, search

KIND, STUDY, DIGEST = "inversion.kind", "inversion.study", "inversion.digest"
SIDE_BY_SIDE = "inversion.side_by_side"
"""How many runs trained on one encoder pass: times are what each would have taken alone, memory is that of all."""


@dataclass(frozen=True)
class StudyRun:
    """The parent run of a study."""

    run_id: str
    name: str

    def child_tags(self) -> dict[str, str]:
        """What makes a run one of this study."""
        return {MLFLOW_PARENT_RUN_ID: self.run_id, STUDY: self.name}


def find_study(connection: Connection, name: str) -> Run | None:
    """The parent run of a study; a request that came twice may have made two, of which the first counts."""
    return _first(search(connection, f"tags.`{KIND}` = 'study' and tags.`{STUDY}` = '{name}'"))


def experiments_of(connection: Connection, name: str) -> list[str]:
    """Names of all experiments that have a study of this name."""
    client = connection.client
    known = {experiment.experiment_id: str(experiment.name) for experiment in pages(
        lambda token: client.search_experiments(max_results=PAGE, page_token=token))}
    found = pages(lambda token: client.search_runs(
        list(known), f"tags.`{KIND}` = 'study' and tags.`{STUDY}` = '{name}'", max_results=PAGE, page_token=token))
    return sorted({known[run.info.experiment_id] for run in found})


def require_study(connection: Connection, name: str) -> Run:
    """The parent run of a study.

    Raises:
        UnknownNameError: the experiment has no study of that name.
        RequestError: it has none at all.
    """
    # all of them, and not those of this name: MLflow's filter cannot ask for a name with a quotation mark
    studies = [run for run in search(connection, f"tags.`{KIND}` = 'study'") if STUDY in run.data.tags]
    parent = _first(run for run in studies if run.data.tags[STUDY] == name)
    if parent is not None:
        return parent
    place = f"experiment {connection.experiment} in {without_password(connection.uri)}"
    if not studies:
        raise RequestError(f"{place} has no study yet, so none called {name!r}: inversion-sweep makes them")
    raise UnknownNameError(f"{place} has no study", name, sorted({run.data.tags[STUDY] for run in studies}))


def _first(runs: Iterable[Run]) -> Run | None:
    """The run that began first."""
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def begin_study(connection: Connection, name: str, tags: Mapping[str, str]) -> StudyRun:
    """The parent run of a study, found or made, RUNNING and this process's; for one process at a time.

    The run that ``mlflow run`` made for this process becomes the parent, or a child of the one there is.
    """
    parent, adopted = find_study(connection, name), os.environ.get("MLFLOW_RUN_ID")
    everything = {KIND: "study", STUDY: name, **tags}
    if parent is not None:
        run_id = parent.info.run_id
        if adopted not in (None, run_id):
            tag(connection, str(adopted), {MLFLOW_RUN_NAME: f"{name} (driver)", MLFLOW_PARENT_RUN_ID: run_id,
                                            KIND: "driver", STUDY: name})
    else:
        run_id = adopted or create_run(connection, name, everything, "inversion-sweep")
    take_over(connection.client, run_id)
    tag(connection, run_id, {MLFLOW_RUN_NAME: name, **everything})
    return StudyRun(run_id, name)


def children(connection: Connection, study: str, condition: str = "") -> Iterator[Run]:
    """The runs of a study, newest first; ``condition`` is one more in MLflow's filter language."""
    return search(connection, f"tags.`{KIND}` = 'run' and tags.`{STUDY}` = '{study}'"
                  + (f" and {condition}" if condition else ""))


def runs_of(connection: Connection, study: str, digest: str) -> list[Run]:
    """The runs of one configuration, the most promising first: FINISHED, then by how many epochs are logged."""
    found = children(connection, study, f"tags.`{DIGEST}` = '{digest}'")
    return sorted(found, key=lambda run: (run.info.status != "FINISHED", "val/loss" not in run.data.metrics,
                                          run.info.start_time))


def tag(connection: Connection, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets several tags of a run in one request."""
    connection.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
