"""What a trial of the queue means: one run of the study, where it stands, and who works on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from optuna.trial import FrozenTrial, TrialState

NAME, CONFIG, DIGEST, FALLBACKS, DOCUMENT = "run", "config", "digest", "fallbacks", "document_version"
"""User attributes of a queued run: its name, its parameters with the version that they are written in
(``inversion.config.document``), and its digest (a search's trials have none before)."""

RUN_ID, OWNER, HOLDS, RELEASED, FAILURE, MESSAGE, SCORES = (
    "mlflow_run", "owner", "holds", "released", "failure", "failure_message", "scores")
"""User attributes that workers set: ``holds`` is the digest that this trial does and no other, ``released`` says why a
run was given back before it was done."""

FIRST, HISTORY = "failed_trial", "retry_history"
"""System attributes by which Optuna links a retry to the trials before it (``RetryHeartbeatStaleTrialCallback``)."""

MAX_DEATHS = 5
"""A run whose worker died so often without an epoch in between is left alone until the sweep is started again: it may
be what kills them."""

State = Literal["queued", "interrupted", "running", "finished", "pruned", "failed", "deleted"]


@dataclass(frozen=True)
class Entry:
    """One run of the study: the last of the trials that stood for it (a retry is a new trial in Optuna).

    ``is_deleted``: it is finished, and what it left was deleted in MLflow, of which Optuna knows nothing.
    """

    trial: FrozenTrial
    is_deleted: bool = False

    @property
    def name(self) -> str:
        return str(self.trial.user_attrs.get(NAME, f"trial {self.root}"))

    @property
    def root(self) -> int:
        """Number of the first trial that stood for this run."""
        first: int = self.trial.system_attrs.get(FIRST, self.trial.number)
        return first

    @property
    def history(self) -> list[int]:
        """Numbers of the trials that stood for this run, this one last."""
        return [*self.trial.system_attrs.get(HISTORY, []), self.trial.number]

    @property
    def digest(self) -> str | None:
        return self.trial.user_attrs.get(DIGEST)

    @property
    def run_id(self) -> str | None:
        """Its run in MLflow, once it has begun."""
        return self.trial.user_attrs.get(RUN_ID)

    @property
    def owner(self) -> Mapping[str, str]:
        """Host and process of the worker that is at it, or was."""
        owner: dict[str, str] = self.trial.user_attrs.get(OWNER, {})
        return owner

    @property
    def config(self) -> Mapping[str, Any]:
        """Its parameters; none as long as a search's trial waits."""
        config: dict[str, Any] = self.trial.user_attrs.get(CONFIG, {})
        return config

    @property
    def epochs(self) -> int | None:
        """How many epochs it has at most."""
        return self.config.get("epochs")

    @property
    def scores(self) -> Mapping[str, float]:
        """Metrics of a finished run."""
        scores: dict[str, float] = self.trial.user_attrs.get(SCORES, {})
        return scores

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
                return "pruned"
        return "failed" if FAILURE in self.trial.user_attrs else "interrupted"

    @property
    def failure(self) -> str:
        """Why it failed, as ``kind: message``."""
        attributes = self.trial.user_attrs
        return f"{attributes.get(FAILURE)}: {attributes.get(MESSAGE, '')}"

    @property
    def is_open(self) -> bool:
        """Whether there is work left on it."""
        return self.state in ("queued", "interrupted", "running")


def latest(trials: Iterable[FrozenTrial]) -> list[Entry]:
    """The runs of a study in the order in which they were queued, each by its last trial."""
    entries: dict[int, Entry] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        entry = Entry(trial)
        entries[entry.root] = entry
    return [entries[root] for root in sorted(entries)]


def deaths(entry: Entry, trials: Mapping[int, FrozenTrial]) -> int:
    """How many workers died at this run since it came an epoch further: trials that ended without a word."""
    died, reached = 0, -1
    for trial in (trials[number] for number in entry.history):
        if (trial.last_step or 0) > reached:  # a trial begins with the epochs of the one before
            died, reached = 0, trial.last_step or 0
        died += trial.state == TrialState.FAIL and not {RELEASED, FAILURE} & trial.user_attrs.keys()
    return died
