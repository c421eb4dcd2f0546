"""From a spec to a study that workers can join: its queue, its parent run in MLflow, and its new runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from inversion.errors import RequestError
from inversion.files import is_there
from inversion.progress import Progress
from inversion.sweeps.queue.entry import Entry, Snapshot
from inversion.sweeps.queue.queue import Queued
from inversion.sweeps.queue.recovery import DIED
from inversion.sweeps.queue.storage import open_storage, storage_url
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.study.additions import describe_additions
from inversion.sweeps.study.parent import (
    STORAGE_BOOT,
    STORAGE_HOST,
    STORAGE_TAG,
    log_code,
    log_runs,
    log_spec,
    storage_tags,
)
from inversion.sweeps.study.reconcile import reconcile_members
from inversion.sweeps.study.resolve import Resolver, resolve_grid, resolve_search
from inversion.sweeps.study.study import (
    BASE,
    LABELS,
    PARENT,
    RUN_TIME,
    Study,
    add_code,
    as_study,
    in_its_experiment,
    make_study,
    require_same_base,
    set_pruner,
)
from inversion.sweeps.study.summary import describe_study
from inversion.tracking.address import is_server, sqlite_file
from inversion.tracking.connection import Connection
from inversion.tracking.lifecycle import DELETED
from inversion.tracking.locks import exclusive_lock
from inversion.tracking.masking import without_password
from inversion.tracking.ownership import BOOT, HOST, machine_tags
from inversion.tracking.study import begin_study, find_study, label_members
from inversion.training.stop import StopRequest


class SetUp(NamedTuple):
    """A study that is set up.

    Attributes:
        study: The open study.
        added: Number of new runs.
        again: Number of runs that were queued again because they were deleted in MLflow.
        longer: Number of runs that were queued again because they had reached a smaller limit.
        spared: Number of runs that were queued again because they were pruned, and the spec has no pruner.
        deleted: Runs that were deleted in MLflow and that the spec does not ask for.
    """

    study: Study
    added: int
    again: int
    longer: int
    spared: int
    deleted: Sequence[Entry]


def locate_queue(given: str | None, connection: Connection, study: str) -> str:
    """The address of a study's queue: the one in which it was created, else ``given`` or the default.

    Raises:
        RequestError: the study has another queue, or one in a file on another machine. With two queues, every run would
            be trained twice.
    """
    url = storage_url(given, connection.uri)
    parent = find_study(connection, study)
    tags = parent.data.tags if parent else {}
    recorded = tags.get(STORAGE_TAG)
    if recorded is None:
        return url
    file = sqlite_file(recorded)
    if file is not None:
        _require_this_machine(study, tags, connection)
    if recorded == without_password(url) or (file is not None and not is_there(file)):
        return url
    if given or "***" in recorded:
        raise RequestError(f"study {study} has its queue in {recorded}, not in {without_password(url)}. "
                           f"Give --storage {recorded}, or another --study.")
    return storage_url(recorded, connection.uri)


def set_up(spec: Spec, connection: Connection, url: str, threads: int, progress: Progress,
           stop: StopRequest | None = None, announce: Callable[[str], None] = lambda line: None) -> SetUp:
    """Creates or extends the study of a spec: queues its new runs, and finished ones that were deleted in MLflow.

    Everything is resolved and checked before anything is written. Runs that leave ``threads`` open get these.
    ``announce`` is told before runs are queued beside others that the spec does not ask for.

    Raises:
        SeveralErrors: some runs cannot be trained.
        RequestError: a different study of this name exists.
    """
    resolver = Resolver(progress, threads)
    runs = [] if spec.search else resolve_grid(spec, resolver, progress)
    base = resolve_search(spec, resolver) if spec.search else None
    storage = open_storage(url, stop=stop)
    with exclusive_lock(url, stop):
        optuna_study = make_study(storage, spec.study, connection, spec.search)
        connection = in_its_experiment(optuna_study, connection)
        if spec.search and base:
            require_same_base(optuna_study, spec.search, base)
        locate_queue(url, connection, spec.study)  # another machine may have created the study meanwhile
        if spec.labels:  # before the runs can be claimed
            optuna_study.set_user_attr(LABELS, {**optuna_study.user_attrs.get(LABELS, {}), **spec.labels})
        if optuna_study.user_attrs.get(RUN_TIME) != spec.limits.run_time:
            optuna_study.set_user_attr(RUN_TIME, spec.limits.run_time)
        if not spec.search:
            set_pruner(optuna_study, spec.pruner)
        parent = begin_study(connection, spec.study, {**storage_tags(url), **spec.labels},
                             optuna_study.user_attrs.get(PARENT))
        if base:
            optuna_study.set_user_attr(BASE, base)
        add_code(optuna_study, spec.parts)
    study = as_study(storage, optuna_study, stop)
    if not spec.search and (line := _additions(study, runs)):
        announce(line)
    added = study.queue.grow(spec.search.trials) if spec.search else study.queue.add(runs, progress)
    optuna_study.set_user_attr(PARENT, parent.run_id)  # allows workers to join, now that runs are queued
    study.queue.recover_stale_trials()
    study.queue.retry_failed([DIED, DELETED])
    deleted, asked = reconcile_members(study, connection), {run.digest for run in runs}
    again = len(study.queue.redo([entry for entry in deleted if spec.search or entry.digest in asked]))
    others = [entry for entry in deleted if not spec.search and entry.digest not in asked]
    longer = study.queue.resume([entry for entry in study.queue.entries() if entry.may_go_on(spec.limits.run_time)
                                 and (spec.search or entry.digest in asked)])
    spared = [] if spec.search or spec.pruner else study.queue.resume(
        [entry for entry in study.queue.entries() if entry.state == "pruned" and entry.digest in asked])
    label_members(connection, spec.study, spec.labels)
    log_spec(connection, parent.run_id, spec)
    log_code(connection, parent.run_id, spec.parts)
    entries = study.queue.entries()
    log_runs(connection, parent.run_id, entries, study.queue.tuning(entries))
    describe_study(study, connection, Snapshot(entries, datetime.now()))
    return SetUp(study, added, again, len(longer), len(spared), others)


def _additions(study: Study, runs: Sequence[Queued]) -> str | None:
    entries = study.queue.entries()
    queued, asked = {entry.digest for entry in entries}, {run.digest for run in runs}
    return describe_additions(study.name, [run.config or {} for run in runs if run.digest not in queued],
                              [entry.config for entry in entries if entry.digest not in asked])


def _require_this_machine(study: str, tags: Mapping[str, str], connection: Connection) -> None:
    """Raises a RequestError if the queue is a file on another machine: here a second, empty one would be created.

    A tracking store that is a file is always on this machine, even if the host name has changed. Containers on one
    machine have different host names and the same boot id.
    """
    host, place = tags.get(STORAGE_HOST), machine_tags()
    if host in (None, place[HOST]) or tags.get(STORAGE_BOOT, "") == place.get(BOOT) or not is_server(connection.uri):
        return
    raise RequestError(f"study {study}: its queue is an SQLite file on {host}; use PostgreSQL "
                       f"(--storage postgresql://USER@HOST/DATABASE, with another --study), or work on {host}.")
