"""The actions of ``inversion-sweep``: sweeping a study from its queue to its leaderboard, and showing its status."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inversion.config.resolve import default_threads
from inversion.console import Console, make_console, progress_bars
from inversion.data.datasets import default_data_dir
from inversion.errors import InterruptedRunError, InversionError
from inversion.parallel import usable_cores
from inversion.progress import no_progress
from inversion.report import search_leaderboard
from inversion.sweeps.opening import Options, connect_to_study, find_place, join, open_existing, service_errors
from inversion.sweeps.queue.allowance import Allowance
from inversion.sweeps.queue.entry import UNFINISHED, Entry, Snapshot
from inversion.sweeps.spec.spec import Spec
from inversion.sweeps.study.commands import join_command
from inversion.sweeps.study.reconcile import (
    end_dead_parent,
    end_others,
    end_parent,
    leave_queued,
    reconcile,
    reconcile_members,
)
from inversion.sweeps.study.resolve import Resolver
from inversion.sweeps.study.set_up import locate_queue, set_up
from inversion.sweeps.study.standing import standings
from inversion.sweeps.study.study import Study, in_its_experiment
from inversion.sweeps.study.trials import search_in
from inversion.sweeps.workers.driver import (
    MOST_NAMED,
    Driver,
    WorkerPool,
    read_snapshot,
    show_deleted,
    show_pruned,
    sum_up,
)
from inversion.sweeps.workers.live import best_run, measures_of, outlook, render
from inversion.sweeps.workers.local import Processes, visible_gpus
from inversion.sweeps.workers.notice import Notice
from inversion.text import first_of
from inversion.tracking.address import absolute
from inversion.tracking.connection import Connection, connect, find_store, require_answer
from inversion.tracking.masking import without_password
from inversion.tracking.mlflow_run import stop_with_mlflow_run
from inversion.tracking.registration import RegisteredName, register_model
from inversion.tracking.retry import with_retries
from inversion.tracking.store_errors import NoTrackingError, TrackingLostError
from inversion.tracking.study import find_parent
from inversion.tracking.system_metrics import NO_GPU, knows_gpus
from inversion.tracking.ui import page_lines
from inversion.training.stop import StopRequest, interruptible, time_limit

if TYPE_CHECKING:
    from inversion.sweeps.workers.slurm import Slurm

SIDE_BY_SIDE_ON_CPU = 4
"""Runs that a single worker trains on one encoder pass: the published study has four decoders."""


def sweep(name: str, spec: Spec | None, options: Options) -> int:
    """Queues the runs of a spec and works on the study until all are done.

    Args:
        name: of the study.
        spec: None joins a study that is queued already, and adds nothing.
        options: of the command, by parameter name.

    Returns:
        The exit code: 0, or 1 if runs failed, timed out or were deleted in MLflow.

    Raises:
        RequestError: the request does not fit the study, or an input is out of reach; nothing was queued.
        InterruptedRunError: a signal stopped the sweep; the same command resumes it.
        InversionError: all workers exited before the study was done, or the tracking store or the queue was lost.
    """
    console = make_console()
    with (Notice(options["notify"], name) as notice, stop_with_mlflow_run() as stop, service_errors(stop),
          time_limit(stop, options["time_limit"])):
        deleted: Sequence[Entry] = ()
        if spec is None:  # before the folder of the workers' logs is made
            connection = connect_to_study(name, options)
            url = locate_queue(options["storage"], connection, name)
            study = join(name, connection, url, stop)
        else:
            url = find_place(name, options)
        tracking = absolute(find_store(options["tracking_uri"]))
        slurm = make_slurm(url, tracking, options) if options["slurm"] else None
        is_queueing = slurm is not None or options["workers"] == 0
        pool = None if is_queueing else make_pool(name, url, tracking, options)
        threads = slurm.threads(options["workers"]) if slurm else default_threads(pool.per_machine if pool else 1)
        if spec is not None:  # only now may the tracking store and the experiment be created
            connection = connect(options["tracking_uri"], options["experiment"])
            study, deleted = _set_up(spec, connection, url, threads, stop, console)
        every = options["seeds_for"] or options["retry_failed"]
        asked = [entry for entry in study.queue.entries() if every or entry.is_open]
        study.accept_code(study.parts_of(asked), options["trust_code"])
        connection = in_its_experiment(study.queue.study, connection)
        if options["seeds_for"] and not _add_seeds(study, connection, threads, options, console):
            return 0
        end_others(connection, name)
        if options["retry_failed"]:
            count = len(study.queue.retry_failed())
            console.print(f"retrying {count} failed run{'' if count == 1 else 's'}")
        if pool is None:
            return _finish_queueing(study, connection, url, deleted, slurm, options, console)
        if isinstance(pool, Processes):
            note_too_many_threads(pool.per_machine, study.threads, console)
            if options["system_metrics"] and pool.gpus and not knows_gpus():
                console.note(NO_GPU)
        allowance = Allowance.of(options["max_runs"])
        snapshot = Driver(study, connection, pool, console, join_command(name, options["tracking_uri"], url),
                          runs_side_by_side(options), options["system_metrics"], notice, allowance).drive(stop)
        is_limited = allowance is not None and allowance.is_used_up(snapshot.entries)
        summed = _sum_up(study, connection, console, stop, leave_queued if is_limited else end_parent)
        limit = f"--max-runs {options['max_runs']} reached" if is_limited else None
        notice.ended(study, connection, summed, stop.reason or limit)
        if is_limited and not summed.is_done:
            console.print(f"stopped by --max-runs {options['max_runs']}: {_not_done(summed, name)}; the same command "
                          "continues", soft_wrap=True)
        elif not snapshot.is_done and stop.reason is None:
            why = "; ".join(pool.errors()) or "they found no run to claim"
            raise InversionError(f"all workers exited with runs still pending: {why}. The same command resumes the "
                                 "study.")
        _register(study, connection, summed, options["register"], console)
        _print_links(study, connection, best_run(summed, measures_of(study)), console)
    if stop.reason is not None and not summed.is_done:
        raise InterruptedRunError(f"{stop.reason}: {_not_done(summed, name)}; the same command resumes the study")
    return 1 if summed.having(*UNFINISHED) else 0


def _not_done(snapshot: Snapshot, study: str) -> str:
    """``2 runs of study ablation are not done``."""
    left = len(snapshot.entries) - snapshot.done
    return f"{left} run{'' if left == 1 else 's'} of study {study} {'is' if left == 1 else 'are'} not done"


def _finish_queueing(study: Study, connection: Connection, url: str, deleted: Sequence[Entry], slurm: Slurm | None,
                     options: Options, console: Console) -> int:
    """Marks the study as queued, submits its jobs or prints how to work on it; returns the exit code."""
    snapshot = read_snapshot(study.queue).without(deleted)
    leave_queued(connection, study.parent.run_id, snapshot)
    join = ["--join", "--study", study.name, "--storage", without_password(url), "--tracking-uri",
            without_password(absolute(connection.uri))]
    if slurm is None:
        console.print(f"work on it with: inversion-sweep {shlex.join(join)}", soft_wrap=True)
    elif snapshot.is_done:
        console.print(f"study {study.name}: all runs are done, and no job is submitted")
    else:
        _submit(slurm, study.name, [*join, *worker_options(options)], console)
    show_deleted(snapshot, console)
    return 1 if snapshot.having("deleted") else 0


def _submit(slurm: Slurm, study: str, arguments: Sequence[str], console: Console) -> None:
    """Submits the jobs of a study, and prints how to follow them."""
    folder = Path("slurm", study).absolute()
    jobs = slurm.submit(arguments, study, folder)
    console.print(f"submitted {len(jobs)} job{'' if len(jobs) == 1 else 's'} to Slurm: {first_of(jobs, MOST_NAMED)}; "
                  f"logs in {folder}", soft_wrap=True)
    console.print(f"follow them with: squeue --name {study}; inversion-sweep --status --study {study}", soft_wrap=True)


def worker_options(options: Options) -> list[str]:
    """The options that the command of a job gets too."""
    numbers = [word for name in ("workers", "side_by_side", "experiment") if options[name] is not None
               for word in (f"--{name.replace('_', '-')}", str(options[name]))]
    return numbers + [f"--{name.replace('_', '-')}" for name in ("system_metrics", "trust_code") if options[name]]


def status(name: str, options: Options) -> int:
    """Shows the state of a study's runs, after correcting in MLflow those whose worker died; returns the exit code.

    Raises:
        RequestError: there is no such study.
        InversionError: the tracking store or the queue does not answer or rejects a request.
    """
    console = make_console()
    with service_errors():
        study, connection = open_existing(name, options)
        reconcile(study.queue, connection, name)
        snapshot = read_snapshot(study.queue).without(reconcile_members(study, connection))
        has_parent = find_parent(connection, name, study.parent.run_id) is not None
        end_dead_parent(connection, study.parent.run_id, snapshot)
        end_others(connection, name)
    start = join_command(name, options["tracking_uri"], study.queue.storage.url)
    when = outlook(snapshot, len(snapshot.having("running")), start)
    console.print(render(snapshot, f"study {name}", measures_of(study), when))
    if study.search is not None:
        search_leaderboard.show(search_in(study.search, snapshot.entries), console)
    show_pruned(snapshot, console)
    show_deleted(snapshot, console)
    if not has_parent:
        console.print(f"the parent run of study {name} was deleted in MLflow: the next sweep makes a new one",
                      soft_wrap=True)
    return 0 if has_parent and not snapshot.having("deleted") else 1


def _set_up(spec: Spec, connection: Connection, url: str, threads: int, stop: StopRequest,
            console: Console) -> tuple[Study, Sequence[Entry]]:
    """The study with the new runs of the spec, and its runs deleted in MLflow that the spec does not ask for."""
    console.print(f"spec {spec.origin}", soft_wrap=True)
    with progress_bars() as report:
        study, added, again, longer, spared, deleted = set_up(
            spec, connection, url, threads, interruptible(report, stop), stop, console.note)
    console.print(f"study {spec.study}: {len(study.queue.entries())} runs, {added} of them new; queue "
                  f"{without_password(url)}, tracking store {without_password(connection.uri)}",
                  soft_wrap=True)
    if spec.limits.run_time is not None:
        console.print(f"limits: {spec.limits}")
    if longer:
        console.print(f"{longer} run{'' if longer == 1 else 's'} that had reached a smaller limit "
                      f"{'is' if longer == 1 else 'are'} queued again")
    if spec.pruner:
        console.print(f"pruner: {spec.pruner}")
    if spared:
        console.print(f"{spared} pruned run{'' if spared == 1 else 's'} {'is' if spared == 1 else 'are'} queued again, "
                      "as the spec has no pruner")
    if again:
        console.print(f"{again} finished run{' was' if again == 1 else 's were'} deleted in MLflow and "
                      f"{'is' if again == 1 else 'are'} queued again")
    return study, deleted


def _add_seeds(study: Study, connection: Connection, threads: int, options: Options, console: Console) -> bool:
    """Queues the seeds that would decide what is undecided in the study's report; returns whether there are any."""
    from inversion.report.seed_plan import describe_plan
    from inversion.sweeps.study.seeds import queue_seeds, seeds_for_undecided

    with console.status("reading the tracking server"):
        more = seeds_for_undecided(study, connection, Resolver(no_progress, threads), options["seed_sd"])
    if more.plan is None:
        console.print(f"study {study.name}: nothing is undecided")
        return False
    console.print(describe_plan(more.plan), soft_wrap=True)
    for run in more.runs:
        console.print(f"  {run.name}", soft_wrap=True)
    if options["dry_run"] or not more.runs:
        return False
    added = queue_seeds(study, connection, more)
    console.print(f"study {study.name}: {len(study.queue.entries())} runs, {added} of them new")
    return True


def _register(study: Study, connection: Connection, snapshot: Snapshot, wanted: RegisteredName | None,
              console: Console) -> None:
    """Registers the model of the best run by validation, if asked to and all runs are done."""
    if wanted is None:
        return
    ranked = standings(study, connection, snapshot.entries) if snapshot.is_done else []
    if not ranked:
        why = "no run of it is finished" if snapshot.is_done else "not all of its runs are done"
        console.note(f"study {study.name}: nothing is registered as {wanted.name}, because {why}")
        return
    winner = ranked[0].runs[0]
    version = register_model(connection.client, winner, wanted)
    console.print(f"registered {ranked[0].name}, the best by validation (run {winner.info.run_id}), as version "
                  f"{version} of {wanted.name}: {wanted.uri}", soft_wrap=True)


def _sum_up(study: Study, connection: Connection, console: Console, stop: StopRequest,
            end: Callable[[Connection, str, Snapshot], None]) -> Snapshot:
    try:
        require_answer(connection.uri)  # MLflow itself would retry for minutes
    except NoTrackingError as error:
        raise TrackingLostError(f"{error} The same command then completes the summary.") from error
    return sum_up(study, with_retries(connection, stop), console, stop, end)


def make_pool(name: str, queue: str, tracking: str, options: Options) -> WorkerPool:
    """The workers of study ``name``, not started; a Ray cluster has to answer before anything is queued."""
    if options["ray"] is not None:
        from inversion.sweeps.workers.ray_cluster import RayTasks

        return RayTasks(options["ray"], options["workers"], options["gpus_per_run"],
                        {"--storage": queue, "--tracking-uri": tracking})
    gpus = visible_gpus()
    return Processes(options["workers"] or max(1, len(gpus)), gpus, default_data_dir() / "sweeps" / name)


def make_slurm(queue: str, tracking: str, options: Options) -> Slurm:
    """The Slurm cluster, which has to accept the options of the jobs before anything is queued."""
    from inversion.sweeps.workers.slurm import Slurm

    return Slurm(options["slurm"], options["jobs"] or 1, {"--storage": queue, "--tracking-uri": tracking})


def note_too_many_threads(workers: int, threads: int, console: Console) -> None:
    """Prints a note if the workers together have more threads than this process has cores.

    The number of threads is fixed when a run is queued, because it is part of what its numbers depend on.
    """
    cores, share = usable_cores(), default_threads(workers)
    if threads > share:
        console.note(f"{workers} run{'s' if workers > 1 else ''} at a time with threads={threads} on "
                     f"{cores} core{'s' if cores > 1 else ''}: queued with threads={share}, they would be faster")


def runs_side_by_side(options: Options) -> int:
    """How many runs a worker trains on one encoder pass.

    By default more than one only for a single worker on a CPU, where it was measured to be faster and takes no work
    from other workers. On a GPU the peak memory, which the report compares, would not be that of one run.
    """
    if options["side_by_side"] is not None:
        return int(options["side_by_side"])
    alone = options["workers"] in (None, 1) and not options["join"]
    return SIDE_BY_SIDE_ON_CPU if alone and options["ray"] is None and not visible_gpus() else 1


def _print_links(study: Study, connection: Connection, best: str | None, console: Console) -> None:
    """Prints the pages of the study and of its best run."""
    pages = {"view the study": study.parent.run_id} | ({"view the best run": best} if best else {})
    for line in page_lines(connection, pages, study.name):
        console.print(line, soft_wrap=True)
