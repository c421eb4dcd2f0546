"""Studies in MLflow: a parent run and its children."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mlflow.entities import Run, RunTag, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_RUN_NOTE

from inversion.errors import RequestError, UnknownNameError
from inversion.tracking.connection import Connection, connect
from inversion.tracking.lifecycle import find_active, restore_hint
from inversion.tracking.masking import without_password
from inversion.tracking.notes import write_note
from inversion.tracking.ownership import create_run, take_over
from inversion.tracking.pages import link_on_page
from inversion.tracking.search import KIND, PAGE, pages, search, search_in, tagged

STUDY, DIGEST = "inversion.study", "inversion.digest"
RUNS = "inversion.runs"
"""Tag of a parent run: the number of runs in each state."""

REPORT_LINE, REPORT_PAGE = "Report:", "report/index.html"
"""The beginning of the line on the report in a study's description, and the artifact that is the report."""

SUPERSEDED, SUPERSEDED_AT = "superseded", "inversion.superseded"
"""Kind of a run whose configuration was queued again from the beginning, and the tag with the time of that."""

RUNS_FILE = "runs.json"
"""The queued runs with name, digest and parameters, from which a report knows which are missing."""

SETTINGS_FILE = "settings.json"
"""The ``--set`` and ``--where`` of every request that changed them."""

SIDE_BY_SIDE = "inversion.side_by_side"
"""How many runs shared the encoder pass: times are those of each run alone, memory is that of all together."""


@dataclass(frozen=True)
class StudyRun:
    """The parent run of a study; ``labels`` are the tags that users have given to the study and its runs."""

    run_id: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def child_tags(self) -> dict[str, str]:
        """The tags that make a run part of this study."""
        return {MLFLOW_PARENT_RUN_ID: self.run_id, STUDY: self.name, **self.labels}


def find_study(connection: Connection, name: str) -> Run | None:
    """The parent run of a study; of two, created by a repeated request, the first counts."""
    return _first(search(connection, _is_parent_of(name)))


def find_parent(connection: Connection, name: str, known: str | None) -> Run | None:
    """The parent run of a study, by its tags or else by its id in the queue (``known``); None if it was deleted."""
    return find_study(connection, name) or (find_active(connection, known) if known else None)


def find_members(connection: Connection, name: str) -> Iterator[Run]:
    """All runs tagged with the name of a study: parents, training runs, optimisations, drivers and reports."""
    return search(connection, tagged(STUDY, name))


def _is_parent_of(name: str) -> str:
    return f"{tagged(KIND, 'study')} and {tagged(STUDY, name)}"


def experiments_of(connection: Connection, name: str) -> list[str]:
    """The names of all experiments with a study of this name."""
    client = connection.client
    known = {experiment.experiment_id: str(experiment.name) for experiment in pages(
        lambda token: client.search_experiments(max_results=PAGE, page_token=token))}
    found = pages(lambda token: client.search_runs(
        list(known), _is_parent_of(name), max_results=PAGE, page_token=token))
    return sorted({known[run.info.experiment_id] for run in found})


def in_experiment_of(connection: Connection, name: str) -> Connection:
    """The connection, switched to the experiment that has a study, unless an experiment was given.

    ``mlflow run`` without ``--experiment-name`` creates studies in the experiment Default.

    Raises:
        RequestError: several experiments have a study of this name, and the connection's has none.
    """
    if connection.is_given or find_study(connection, name):
        return connection
    found = experiments_of(connection, name)
    if len(found) > 1:
        raise RequestError(f"study {name} is in several experiments: {', '.join(found)}. Give one of them with "
                           "--experiment.")
    return connect(connection.uri, found[0], create=False) if found else connection


def require_study(connection: Connection, name: str) -> Run:
    """The parent run of a study.

    Raises:
        UnknownNameError: the experiment has no study of that name.
        RequestError: it has no study at all, or this one was deleted.
    """
    # filtered here: MLflow's filters cannot quote every name
    studies = [run for run in search(connection, tagged(KIND, "study")) if STUDY in run.data.tags]
    parent = _first(run for run in studies if run.data.tags[STUDY] == name)
    if parent is not None:
        return parent
    place = f"experiment {connection.experiment} in {without_password(connection.uri)}"
    deleted = _first(run for run in _deleted_studies(connection) if run.data.tags.get(STUDY) == name)
    if deleted is not None:
        raise RequestError(f"{place}: the run of study {name!r} was deleted in MLflow: "
                           f"{restore_hint(deleted.info.run_id)}; inversion-sweep with its spec creates a new one")
    if not studies:
        raise RequestError(f"{place} has no study yet, so none called {name!r}: inversion-sweep creates them")
    raise UnknownNameError(f"{place} has no study", name, sorted({run.data.tags[STUDY] for run in studies}))


def _deleted_studies(connection: Connection) -> Iterator[Run]:
    return search_in(connection, [connection.experiment_id], tagged(KIND, "study"), ViewType.DELETED_ONLY)


def _first(runs: Iterable[Run]) -> Run | None:
    """The run that was started first."""
    return min(runs, key=lambda run: (run.info.start_time, run.info.run_id), default=None)


def begin_study(connection: Connection, name: str, tags: Mapping[str, str], known: str | None = None) -> StudyRun:
    """Finds or creates the parent run of a study, and makes it RUNNING and owned by this process.

    Call it in one process at a time. A run that ``mlflow run`` has created for this process becomes the parent, or a
    child of an existing one. A deleted parent is not restored: the user deleted it, and ``mlflow gc`` may remove it.

    Args:
        connection: the tracking store.
        name: the name of the study.
        tags: more tags of the parent.
        known: the id of the parent in the queue.
    """
    parent, project_run = find_parent(connection, name, known), _project_run(connection)
    everything = {KIND: "study", STUDY: name, **tags}
    if parent is not None:
        run_id = parent.info.run_id
        if project_run not in (None, run_id):
            tag(connection, str(project_run), {MLFLOW_RUN_NAME: f"{name} (driver)", MLFLOW_PARENT_RUN_ID: run_id,
                                            KIND: "driver", STUDY: name})
    elif project_run is not None:
        run_id = project_run
        tag(connection, run_id, {MLFLOW_RUN_NAME: name})
    else:
        run_id = create_run(connection, name, everything, "inversion-sweep")
    take_over(connection.client, run_id)
    tag(connection, run_id, everything)
    return StudyRun(run_id, name)


def link_report(connection: Connection, run_id: str, study: str) -> None:
    """Lets the description of a study lead to the report that was logged to its parent run ``run_id``.

    Raises:
        MlflowException: the store is unreachable or rejects the request; ``to_inversion_error`` converts it.
    """
    parent = connection.client.get_run(run_id)
    line = report_line(connection, parent, study)
    paragraphs = parent.data.tags.get(MLFLOW_RUN_NOTE, "").split("\n\n")
    others = [text for text in paragraphs if text and not text.startswith(REPORT_LINE)]
    number = next((number for number, text in enumerate(paragraphs) if text.startswith(REPORT_LINE)), len(others))
    write_note(connection.client, run_id, "\n\n".join([*others[:number], line, *others[number:]]))


def report_line(connection: Connection, parent: Run, study: str) -> str:
    """The line of a study's description that leads to its report, or says how to write one."""
    if any(item.path == REPORT_PAGE for item in connection.client.list_artifacts(parent.info.run_id, "report")):
        page = link_on_page(REPORT_PAGE, parent.info.experiment_id, parent.info.run_id, artifact=REPORT_PAGE)
        return f"{REPORT_LINE} {page}, which says what is significant."
    return f"{REPORT_LINE} `inversion-report {study} --output report` writes it, and says what is significant."


def _project_run(connection: Connection) -> str | None:
    """The run that ``mlflow run`` has created for this process, unless it was deleted or has ended."""
    run_id = os.environ.get("MLFLOW_RUN_ID")
    run = find_active(connection, run_id) if run_id else None
    return run_id if run and run.info.status in ("RUNNING", "SCHEDULED") else None


def children(connection: Connection, study: str, condition: str = "") -> Iterator[Run]:
    """The training runs of a study, newest first; ``condition`` is one more filter of MLflow."""
    return search(connection, f"{tagged(KIND, 'run')} and {tagged(STUDY, study)}"
                  + (f" and {condition}" if condition else ""))


def runs_of(connection: Connection, study: str, digest: str) -> list[Run]:
    """The runs of one configuration, the best to resume first: FINISHED, then with logged epochs, then the oldest."""
    found = children(connection, study, tagged(DIGEST, digest))
    return sorted(found, key=lambda run: (run.info.status != "FINISHED", "val/loss" not in run.data.metrics,
                                          run.info.start_time))


def label_members(connection: Connection, study: str, labels: Mapping[str, str]) -> None:
    """Gives tags to the parent run and the training runs of a study that do not have them yet."""
    for run in find_members(connection, study) if labels else ():
        missing = {key: value for key, value in labels.items() if run.data.tags.get(key) != value}
        if missing and run.data.tags.get(KIND) in ("study", "run"):
            tag(connection, run.info.run_id, missing)


def tag(connection: Connection, run_id: str, tags: Mapping[str, str]) -> None:
    """Sets several tags of a run in one request."""
    connection.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
