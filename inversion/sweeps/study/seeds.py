"""More seeds for those configurations of a grid whose comparison is undecided."""

from __future__ import annotations

from dataclasses import dataclass

from inversion.config.document import config_from
from inversion.errors import RequestError
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.data.configuration import Configuration
from inversion.report.published import load_studies
from inversion.report.seed_plan import SeedPlan, plan_seeds
from inversion.report.tables.published import reproduced
from inversion.sweeps.queue.entry import CONFIG, DOCUMENT, Entry
from inversion.sweeps.queue.queue import Queued
from inversion.sweeps.study.parent import log_runs
from inversion.sweeps.study.resolve import Resolver
from inversion.sweeps.study.study import Study
from inversion.tracking.connection import Connection


@dataclass(frozen=True)
class MoreSeeds:
    """Runs that are expected to decide open questions of a study; none if nothing is open or seeds would not help."""

    plan: SeedPlan | None
    runs: tuple[Queued, ...]


def seeds_for_undecided(study: Study, connection: Connection, resolver: Resolver, seed_sd: float | None) -> MoreSeeds:
    """Plans the seeds that a report of the study asks for, and resolves their runs; queues nothing.

    Raises:
        RequestError: the study is a search, has no scored runs, or a run's inputs are out of reach.
    """
    if study.search is not None:
        raise RequestError(f"study {study.name} is a search, and its trials have one seed each: queue a grid with the "
                           "configurations to compare")
    data = collect(connection, study.name)
    boards = make_boards(data.runs, seed_sd, data.tuned)
    if not boards:
        raise RequestError(f"study {study.name} has no scored runs yet")
    plan = plan_seeds(boards[0], reproduced(load_studies(), boards[0]))
    if plan is None:
        return MoreSeeds(None, ())
    entries = {entry.digest: entry for entry in study.queue.entries()}
    runs = [run for item in plan.configurations for run in _missing_seeds(item, plan.seeds, entries, resolver)]
    return MoreSeeds(plan, tuple(runs))


def queue_seeds(study: Study, connection: Connection, more: MoreSeeds) -> int:
    """Queues the runs; returns how many were not queued before."""
    added = study.queue.add(more.runs)
    entries = study.queue.entries()
    log_runs(connection, study.parent.run_id, entries, study.queue.tuning(entries))
    return added


def _missing_seeds(item: Configuration, seeds: int, entries: dict[str | None, Entry], resolver: Resolver,
                   ) -> list[Queued]:
    """The runs that the configuration lacks for ``seeds`` seeds, with the smallest seeds that it does not have."""
    queued = next((entries[run.digest] for run in item.runs.values() if run.digest in entries), None)
    if queued is None:
        raise RequestError(f"{item.label} was not queued by inversion-sweep: use inversion train for its other seeds")
    attributes = queued.trial.user_attrs
    config = config_from(attributes[CONFIG], attributes.get(DOCUMENT, 1), f"run {queued.name} of the queue")
    free = [seed for seed in range(seeds + len(item.runs)) if seed not in item.runs]
    return [resolver.queued(config.model_copy(update={"seed": seed})) for seed in free[: seeds - len(item.runs)]]
