"""The runs of a study in its queue: the state and worker of each, and a snapshot of all."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, get_args

from optuna.trial import FrozenTrial, TrialState

from inversion.config.distinguish import with_differences
from inversion.errors import TimeLimitError

NAME, CONFIG, DIGEST, FALLBACKS, DOCUMENT = "run", "config", "digest", "fallbacks", "document_version"
"""User attributes of a queued run: its name, its parameters and the version of their document
(``inversion.config.document``), and its digest. A search's trials get them when they start."""

PRIORITY = "priority"
"""User attribute of a queued run: runs of a higher one are done first. 0 is not stored."""

RUN_ID, OWNER, HOLDS, RELEASED, FAILURE, MESSAGE, SCORES = (
    "mlflow_run", "owner", "holds", "released", "failure", "failure_message", "scores")
"""User attributes that workers set: ``holds`` is the digest that this trial has reserved, ``released`` the reason why a
run was requeued before it was finished."""

NOT_CHOSEN = "not_chosen"
"""User attribute of a trial that was pruned because another value of a tuned parameter was chosen."""

PRUNED_BY = "pruned_by"
"""User attribute of a trial of a grid that was pruned: the name of the pruner."""

COMPETITOR = "competitor"
"""User attribute of a run of a grid: what a pruner has to know of it, if the study has one (``pruning.Competitor``)."""

TO_THE_END = "to_the_end"
"""User attribute of a trial that no pruner may stop, because a user asked for the run again."""

REMOVED = "removed"
"""User attribute of a trial that a user removed from the queue before it was done; its run is none of the study's."""

STOP = "stop"
"""User attribute of a running trial whose worker is asked to stop it."""

STOPPED = "stopped"
"""Value of ``FAILURE`` for a run that was stopped by request: it is not taken up again until that is asked for."""

TIME_LIMIT = TimeLimitError.kind
"""Value of ``FAILURE`` for a run that has trained for as long as its study allowed."""

REACHED = "run_time"
"""User attribute of such a run: the limit in seconds."""

FIRST, HISTORY = "failed_trial", "retry_history"
"""System attributes by which Optuna links a retry to the trials before it (``RetryHeartbeatStaleTrialCallback``)."""

State = Literal["queued", "interrupted", "running", "finished", "pruned", "not chosen", "stopped", "timed out",
                "failed", "deleted"]
STATES: tuple[State, ...] = get_args(State)
ENDED_EARLY: Mapping[str, State] = {STOPPED: "stopped", TIME_LIMIT: "timed out"}
"""The states of runs that ended without a result and did not fail, by ``FAILURE``."""
UNFINISHED: tuple[State, ...] = ("timed out", "failed", "deleted")
"""States in which a study lacks results that nobody gave up on purpose: exit code 1."""
WAITING: tuple[State, ...] = ("queued", "interrupted")


@dataclass(frozen=True)
class Entry:
    """One run of the study, by its latest trial: a retry is a new trial in Optuna.

    ``is_deleted``: it is finished, but its run was deleted in MLflow, which is not stored in Optuna. ``resumed_after``:
    the epochs that were done when its latest trial was queued.
    """

    trial: FrozenTrial
    is_deleted: bool = False
    resumed_after: int = 0

    @property
    def name(self) -> str:
        return str(self.trial.user_attrs.get(NAME, f"trial {self.root}"))

    @property
    def root(self) -> int:
        """Number of the first trial of this run."""
        first: int = self.trial.system_attrs.get(FIRST, self.trial.number)
        return first

    @property
    def history(self) -> list[int]:
        """Numbers of all trials of this run, the latest last."""
        return [*self.trial.system_attrs.get(HISTORY, []), self.trial.number]

    @property
    def digest(self) -> str | None:
        return self.trial.user_attrs.get(DIGEST)

    @property
    def run_id(self) -> str | None:
        """Id of its MLflow run, once it has started."""
        return self.trial.user_attrs.get(RUN_ID)

    @property
    def owner(self) -> Mapping[str, str]:
        """Host and process of the worker that trains it, or trained it last."""
        owner: dict[str, str] = self.trial.user_attrs.get(OWNER, {})
        return owner

    @property
    def config(self) -> Mapping[str, Any]:
        """Its parameters; empty while a search's trial is waiting."""
        config: dict[str, Any] = self.trial.user_attrs.get(CONFIG, {})
        return config

    @property
    def epochs(self) -> int | None:
        """The maximum number of epochs."""
        return self.config.get("epochs")

    @property
    def scores(self) -> Mapping[str, float]:
        """Metrics of a finished run."""
        scores: dict[str, float] = self.trial.user_attrs.get(SCORES, {})
        return scores

    @property
    def priority(self) -> int:
        """Waiting runs of a higher priority are done first."""
        return int(self.trial.user_attrs.get(PRIORITY, 0))

    @property
    def turn(self) -> tuple[bool, int, int]:
        """Waiting runs are done in this order: interrupted ones, then by priority, then as they were queued."""
        return self.state != "interrupted", -self.priority, self.trial.number

    @property
    def state(self) -> State:
        match self.trial.state:
            case TrialState.WAITING:
                return "interrupted" if len(self.history) > 1 else "queued"
            case TrialState.RUNNING:
                return "running"
            case TrialState.COMPLETE:
                return "deleted" if self.is_deleted else "finished"
            case TrialState.PRUNED:
                return "not chosen" if NOT_CHOSEN in self.trial.user_attrs else "pruned"
        if FAILURE not in self.trial.user_attrs:
            return "interrupted"
        return ENDED_EARLY.get(self.trial.user_attrs[FAILURE], "failed")

    def may_go_on(self, run_time: float | None) -> bool:
        """Whether it has reached a limit that is smaller than this one, in seconds; None is no limit."""
        return self.state == "timed out" and (run_time is None or self.trial.user_attrs[REACHED] < run_time)

    @property
    def failure(self) -> str:
        """Why it failed, as ``kind: message``."""
        attributes = self.trial.user_attrs
        return f"{attributes.get(FAILURE)}: {attributes.get(MESSAGE, '')}"

    @property
    def pruned_by(self) -> str | None:
        """The name of the pruner that stopped it, or another seed of its configuration; None for runs of a search."""
        return self.trial.user_attrs.get(PRUNED_BY) if self.state == "pruned" else None

    @property
    def epoch(self) -> int:
        """The last epoch that was reported, 0 before the first."""
        return self.trial.last_step or 0

    @property
    def latest_value(self) -> float | None:
        """The study's metric after the last epoch that was reported."""
        return self.trial.intermediate_values.get(self.epoch)

    def best_value(self, direction: str) -> tuple[float, int] | None:
        """The best value of the study's metric and its epoch; ``direction`` is ``maximize`` or ``minimize``."""
        values = {epoch: value for epoch, value in self.trial.intermediate_values.items() if not math.isnan(value)}
        if not values:
            return None
        choose = max if direction == "maximize" else min
        epoch = choose(sorted(values), key=lambda epoch: values[epoch])
        return values[epoch], epoch

    @property
    def is_open(self) -> bool:
        """Whether it is not done yet."""
        return self.state in (*WAITING, "running")


def latest(trials: Iterable[FrozenTrial]) -> list[Entry]:
    """The runs of a study in queueing order, each by its latest trial; without those that were removed."""
    entries: dict[int, Entry] = {}
    epochs: dict[int, int] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        history = trial.system_attrs.get(HISTORY, [])
        entry = Entry(trial, resumed_after=epochs.get(history[-1], 0) if history else 0)
        entries[entry.root] = entry
        epochs[trial.number] = entry.epoch
    return [entries[root] for root in sorted(entries) if REMOVED not in entries[root].trial.user_attrs]


@dataclass(frozen=True)
class Snapshot:
    """The runs of a study as they were ``at`` a time.

    ``shares`` has the probability that a waiting run will be done, by its root, where that is not 1: of a tuned
    configuration, one value of several gets all seeds.
    """

    entries: Sequence[Entry]
    at: datetime
    shares: Mapping[int, float] = field(default_factory=dict)

    @cached_property
    def _labels(self) -> dict[int, str]:
        names, parameters = [entry.name for entry in self.entries], [entry.config for entry in self.entries]
        roots = [entry.root for entry in self.entries]
        return dict(zip(roots, with_differences(names, parameters), strict=True))

    def label(self, entry: Entry) -> str:
        """The name of a run, with the parameters in which it differs from others of that name."""
        return self._labels.get(entry.root, entry.name)

    def without(self, deleted: Collection[Entry]) -> Snapshot:
        """The same snapshot, with these finished runs marked as deleted in MLflow."""
        trials = {entry.trial._trial_id for entry in deleted}
        return Snapshot([replace(entry, is_deleted=entry.trial._trial_id in trials) for entry in self.entries], self.at,
                        self.shares)

    def having(self, *states: State) -> list[Entry]:
        """The runs in these states, in queueing order."""
        return [entry for entry in self.entries if entry.state in states]

    @property
    def counts(self) -> dict[State, int]:
        """Number of runs by state, without empty states."""
        numbers = {state: len(self.having(state)) for state in STATES}
        return {state: number for state, number in numbers.items() if number}

    @property
    def counts_text(self) -> str:
        """``9 finished, 1 failed``."""
        return ", ".join(f"{number} {state}" for state, number in self.counts.items())

    @property
    def done(self) -> int:
        """How many runs are done, however they ended."""
        return sum(not entry.is_open for entry in self.entries)

    @property
    def is_done(self) -> bool:
        """Whether every run of the study is done."""
        return not any(entry.is_open for entry in self.entries)


def duration(start: datetime | None, end: datetime | None) -> float:
    """Seconds between two times of a trial; 0 if one of them is unknown."""
    return (end - start).total_seconds() if start and end else 0.0
