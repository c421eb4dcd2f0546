"""What ``inversion-sweep`` does once it is known what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from shlex import quote
from typing import Any

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from inversion.config.resolve import default_threads
from inversion.console import Console, make_console, progress_bars
from inversion.cores import usable_cores
from inversion.data.datasets import default_data_dir
from inversion.errors import InterruptedRunError, InversionError, RequestError
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.snapshot import Snapshot
from inversion.sweeps.queue.storage import (
    QueueLostError,
    QueueRefusedError,
    has_studies,
    open_storage,
    require_apart,
    require_queue,
)
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.study.reconcile import end_dead_parent, end_others, leave_queued, reconcile, reconcile_members
from inversion.sweeps.study.set_up import locate_queue, set_up
from inversion.sweeps.study.study import Study, follow_store, in_its_experiment, open_study, require_same_store
from inversion.sweeps.workers.driver import Crew, Driver, look, show_deleted, sum_up
from inversion.sweeps.workers.live import render
from inversion.sweeps.workers.local import Processes, visible_gpus
from inversion.tracking.address import absolute, sqlite_file
from inversion.tracking.connection import Connection, connect, find_store, require_answer
from inversion.tracking.masking import without_password
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.tracking.retry import with_retries
from inversion.tracking.store_errors import NoTrackingError, TrackingLostError, is_refused, reason, to_inversion_error
from inversion.tracking.study import experiments_of, find_parent, find_study
from inversion.training.stop import StopRequest, interruptible

Options = Mapping[str, Any]

ON_A_CPU = 4
"""Runs side by side: the study has as many decoders."""


def sweep(name: str, spec: Spec | None, options: Options) -> int:
    """Queues the spec (none: joins what is there) and works on the study; returns the exit code."""
    console = make_console()
    with stop_with_mlflow_run() as stop, _lost_in_one_line(stop):
        connection = _connect(name, options, make=spec is not None)
        url = locate_queue(options["storage"], connection, name)
        require_queue(url)
        crew = _crew(name, url, absolute(connection.uri), options) if options["workers"] != 0 else None
        study, deleted = (_queue(spec, connection, url, crew, stop, console) if spec
                          else (_join(name, connection, url, stop), []))
        connection = in_its_experiment(study.queue.study, connection)
        end_others(connection, name)
        if options["retry_failed"]:
            again = study.queue.retry_failed()
            console.print(f"{len(again)} failed runs are tried again")
        if crew is None:
            snapshot = look(study.queue).without(deleted)
            leave_queued(connection, study.parent.run_id, snapshot)
            console.print(_how_to_join(study, connection, url), soft_wrap=True)
            show_deleted(snapshot.having("deleted"), console)
            return 1 if snapshot.having("deleted") else 0
        if isinstance(crew, Processes):
            _note_crowding(crew.per_machine, study.threads, console)
        snapshot = Driver(study, connection, crew, console, _side_by_side(options)).drive(stop)
        summed = _sum_up(study, connection, console, stop)
        if not snapshot.is_done and stop.reason is None:
            why = "; ".join(crew.troubles()) or "they found nothing to do"
            raise InversionError(f"the workers ended before the work did: {why}. The same command goes on with it.")
        snapshot = summed
        _say_where(study, connection, url, console)
    return _exit_code(snapshot, stop, study)


def status(name: str, options: Options) -> int:
    """Shows how a study stands, after putting the tracking store in line with what is dead."""
    console = make_console()
    with _lost_in_one_line():
        connection = _connect(name, options, make=False)
        study = _join(name, connection, locate_queue(options["storage"], connection, name))
        connection = in_its_experiment(study.queue.study, connection)
        study.queue.recover_stale_trials(patient=False)
        reconcile(study.queue, connection, name)
        snapshot = look(study.queue).without(reconcile_members(study, connection))
        has_parent = find_parent(connection, name, study.parent.run_id) is not None
        end_dead_parent(connection, study.parent.run_id, snapshot)
        end_others(connection, name)
    console.print(render(snapshot, f"study {name}", study.metric, len(snapshot.having("running"))))
    show_deleted(snapshot.having("deleted"), console)
    if not has_parent:
        console.print(f"the run of study {name} itself was deleted in MLflow: whoever works on it next makes a new one",
                      soft_wrap=True)
    return 0 if has_parent and not snapshot.having("deleted") else 1


def _connect(name: str, options: Options, make: bool) -> Connection:
    """The tracking store, with the study's experiment if none was given and the study is not in the default one."""
    require_apart(options["storage"], find_store(options["tracking_uri"]))
    # an experiment that is not there may be another than the study's, which its queue knows
    connection = connect(options["tracking_uri"], options["experiment"], create=make, required=False)
    if make or connection.is_given or find_study(connection, name):
        return connection
    found = experiments_of(connection, name)
    if len(found) > 1:
        raise RequestError(f"study {name} is in several experiments: {', '.join(found)}. Give one as --experiment.")
    return connect(connection.uri, found[0], create=False) if found else connection


@contextmanager
def _lost_in_one_line(stop: StopRequest | None = None) -> Iterator[None]:
    """A tracking store or a queue that goes away or refuses is told in one line.

    Raises:
        InversionError: which of the two, and why.
        InterruptedRunError: the same, after somebody asked to stop.
    """
    try:
        yield
    except Exception as error:
        ours = _queue_in_our_words(error) or to_inversion_error(error, "The same command goes on when it answers.")
        ours = error if isinstance(error, TrackingLostError | QueueLostError) else ours
        if ours is None:
            raise
        if stop is not None and stop.reason is not None:
            raise InterruptedRunError(f"{stop.reason}; {ours}") from error
        if ours is error:
            raise
        raise ours from error


def _queue_in_our_words(error: Exception) -> InversionError | None:
    """An error of the queue's database, which Optuna and SQLAlchemy raise; MLflow's errors are MLflow's own."""
    if not isinstance(error, SQLAlchemyError | StorageInternalError):
        return None
    if is_refused(error):
        return QueueRefusedError(f"the queue's database refuses: {reason(error)}")
    return QueueLostError(f"the queue's database does not answer: {reason(error)}. "
                          "The same command goes on when it does.")


def _queue(spec: Spec, connection: Connection, url: str, crew: Crew | None, stop: StopRequest,
           console: Console) -> tuple[Study, Sequence[Entry]]:
    """The study with what is new in the spec, and what of it was deleted and is not asked for."""
    console.print(f"spec {spec.path}", soft_wrap=True)
    with progress_bars() as report:
        study, added, again, deleted = set_up(spec, connection, url, crew.per_machine if crew else 1,
                                              interruptible(report, stop), stop)
    console.print(f"study {spec.study}: {len(study.queue.entries())} runs, {added} of them new; queue "
                  f"{without_password(url)}, tracking store {without_password(connection.uri)}",
                  soft_wrap=True)
    if again:
        console.print(f"{again} finished runs were deleted in MLflow, and are queued again")
    return study, deleted


def _join(name: str, connection: Connection, url: str, stop: StopRequest | None = None) -> Study:
    file = sqlite_file(url)
    if file is not None and not file.exists():  # looking and joining make none
        raise RequestError(f"queue {url} is not there, so it has no study {name!r}: run inversion-sweep with its spec "
                           "first, or give another --storage")
    if not has_studies(url):
        raise RequestError(f"queue {without_password(url)} has no study {name!r}, and none at all: run inversion-sweep "
                           "with a spec first, or give another --storage")
    study = open_study(open_storage(url, stop=stop), name, stop)
    follow_store(study.queue.study, connection)
    require_same_store(study.queue.study, connection.uri)
    return study


def _sum_up(study: Study, connection: Connection, console: Console, stop: StopRequest) -> Snapshot:
    try:
        require_answer(connection.uri)  # MLflow itself would try for minutes
    except NoTrackingError as error:
        raise TrackingLostError(f"{error} The same command then sums the study up.") from error
    return sum_up(study, with_retries(connection, stop), console, stop)


def _crew(name: str, queue: str, tracking: str, options: Options) -> Crew:
    """Those who are to work; a Ray cluster has to answer before anything is queued."""
    if options["ray"] is not None:
        from inversion.sweeps.workers.ray_cluster import RayTasks

        return RayTasks(options["ray"], options["workers"], options["gpus_per_run"],
                        {"--storage": queue, "--tracking-uri": tracking})
    gpus = visible_gpus()
    return Processes(options["workers"] or max(1, len(gpus)), gpus, default_data_dir() / "sweeps" / name)


def _note_crowding(workers: int, threads: int, console: Console) -> None:
    """Says if the workers have more threads together than this process may use cores: a queued run keeps its number."""
    cores, share = usable_cores(), default_threads(workers)
    if threads > share:
        console.note(f"threads={threads}, {workers} run{'s' if workers > 1 else ''} at a time, and "
                     f"{cores} core{'s' if cores > 1 else ''}: queued with threads={share} they would be faster")


def _side_by_side(options: Options) -> int:
    """How many runs a worker trains on one encoder pass.

    Unasked only where that is measured to pay and takes nothing from other workers of this command: for a single one on
    a CPU. On a GPU the peak of memory would no longer be each run's own, which the report compares.
    """
    if options["side_by_side"] is not None:
        return int(options["side_by_side"])
    alone = options["workers"] in (None, 1) and not options["join"]
    return ON_A_CPU if alone and options["ray"] is None and not visible_gpus() else 1


def _exit_code(snapshot: Snapshot, stop: StopRequest, study: Study) -> int:
    if stop.reason is not None and not snapshot.is_done:
        raise InterruptedRunError(f"{stop.reason}: {len(snapshot.having('queued', 'interrupted', 'running'))} runs of "
                                  f"study {study.name} are left; the same command goes on with them")
    return 1 if snapshot.having("failed", "deleted") else 0


def _how_to_join(study: Study, connection: Connection, url: str) -> str:
    return (f"work on it with: inversion-sweep --join --study {study.name} --storage {quote(without_password(url))} "
            f"--tracking-uri {quote(without_password(connection.uri))}")


def _say_where(study: Study, connection: Connection, url: str, console: Console) -> None:
    client, run_id = connection.client, study.parent.run_id
    uri, queue = without_password(absolute(connection.uri)), quote(without_password(url))
    page = (f"{uri.rstrip('/')}/#/experiments/{client.get_run(run_id).info.experiment_id}/runs/{run_id}"
            if uri.startswith("http") else f"mlflow ui --backend-store-uri {quote(uri)}")
    console.print(f"look at the runs: {page}  (study run {run_id})", soft_wrap=True)
    console.print(f"look at the queue: optuna-dashboard {queue}", soft_wrap=True)
