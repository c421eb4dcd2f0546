"""A study as read from the tracking server: its runs with their scores, failures and missing runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Run

from inversion.config.distinguish import with_differences
from inversion.config.labels import COMMENT, given_tags
from inversion.report.data.comparable import name_of
from inversion.tracking.study import DIGEST


@dataclass(frozen=True)
class ReportRun:
    """One run of the study.

    Attributes:
        run: The run in MLflow.
        document: Its configuration (``inversion.config``); empty if that cannot be read.
        scores: A row for each test image: ``image``, the ``METRICS``, ``mse``; None if there are none.
        problem: Why the configuration or the scores cannot be read.
    """

    run: Run
    document: Mapping[str, Any]
    scores: pd.DataFrame | None = None
    problem: str = ""

    @property
    def run_id(self) -> str:
        return str(self.run.info.run_id)

    @property
    def name(self) -> str:
        """Its name from the configuration; the name in MLflow can be edited."""
        return name_of(self.document) if self.document else str(self.run.info.run_name or self.run_id)

    @property
    def digest(self) -> str | None:
        """The digest of its configuration."""
        digest: str | None = self.document.get("digest", self.tags.get(DIGEST))
        return digest

    @property
    def status(self) -> str:
        return str(self.run.info.status)

    @property
    def tags(self) -> dict[str, str]:
        tags: dict[str, str] = self.run.data.tags
        return tags

    @property
    def metrics(self) -> dict[str, float]:
        metrics: dict[str, float] = self.run.data.metrics
        return metrics

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The resolved parameters."""
        parameters: Mapping[str, Any] = self.document.get("parameters", {})
        return parameters

    @cached_property
    def is_scored(self) -> bool:
        """Whether it is finished and has finite test scores."""
        return (self.status == "FINISHED" and self.scores is not None
                and bool(np.isfinite(self.scores[["psnr", "ssim"]].to_numpy(np.float64)).all()))

    @cached_property
    def images(self) -> frozenset[str]:
        """Names of its test images."""
        return frozenset() if self.scores is None else frozenset(self.scores["image"])

    @property
    def hours(self) -> float:
        """Hours from start to end, as in MLflow."""
        start, end = self.run.info.start_time, self.run.info.end_time
        return (end - start) / 3.6e6 if start and end else 0.0

    @property
    def working_hours(self) -> float | None:
        """Hours of training and evaluation without waiting and interruptions; None if they were not logged."""
        seconds = [self.metrics.get(name) for name in ("train_seconds", "eval_seconds")]
        known = [value for value in seconds if value is not None]
        return sum(known) / 3600 if len(known) == len(seconds) else None


@dataclass(frozen=True)
class StoppedEarly:
    """The configurations of a grid that were stopped early.

    Attributes:
        pruners: What stopped them.
        epochs: The epoch after which each was stopped, by label.
        untrained: Number of runs with other seeds of theirs, which were not trained.
    """

    pruners: tuple[str, ...]
    epochs: Mapping[str, int]
    untrained: int

    def __bool__(self) -> bool:
        return bool(self.epochs)

    @property
    def count(self) -> str:
        """``3 configurations``."""
        return f"{len(self.epochs)} configuration{'' if len(self.epochs) == 1 else 's'}"

    @property
    def by(self) -> str:
        """``the median pruner``."""
        return f"the {' and '.join(self.pruners)} pruner"

    def __str__(self) -> str:
        """``2 configurations were stopped early by the median pruner at epoch 4: a, b``."""
        were, epochs = "was" if len(self.epochs) == 1 else "were", sorted(set(self.epochs.values()))
        if len(epochs) == 1:
            when, names = f"epoch {epochs[0]}", list(self.epochs)
        else:
            when = f"epochs {epochs[0]} to {epochs[-1]}"
            names = [f"{label} ({epoch})" for label, epoch in self.epochs.items()]
        text = f"{self.count} {were} stopped early by {self.by} at {when}: {', '.join(names)}"
        runs = f"{self.untrained} run{'' if self.untrained == 1 else 's'}"
        return text + (f" (and {runs} with other seeds not trained)" if self.untrained else "")


@dataclass(frozen=True)
class StudyData:
    """Everything the tracking server has on a study.

    Attributes:
        name: The name of the study.
        parent: Its parent run in MLflow.
        runs: The runs that have started.
        planned: The queued runs, as listed in the parent run.
        references: Runs of ``inversion optimize`` that belong to the study.
        evaluations: The finished evaluations of its runs, the newest first.
        spec: The spec files, text by name.
        settings: The options that each request was queued with.
    """

    name: str
    parent: Run
    runs: Sequence[ReportRun]
    planned: Sequence[Mapping[str, Any]] = ()
    references: Sequence[ReportRun] = ()
    spec: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()
    evaluations: Sequence[ReportRun] = ()

    @property
    def tags(self) -> dict[str, str]:
        """The tags that users have given to the study."""
        return given_tags(self.parent.data.tags)

    @property
    def comment(self) -> str:
        """The user's comment; empty if there is none."""
        return str(self.parent.data.tags.get(COMMENT, ""))

    @property
    def missing(self) -> list[str]:
        """Names of queued runs that have not started or have been deleted."""
        return [str(item["run"]) for item in self.absent]

    @property
    def deleted(self) -> list[str]:
        """Names of runs that had started and were deleted in MLflow."""
        return [str(item["run"]) for item in self.absent if item.get("is_deleted")]

    @property
    def absent(self) -> list[Mapping[str, Any]]:
        """Queued runs that do not exist.

        A trial of a search has no digest until it starts, and the list of queued runs may predate that. As many of
        these entries have started as there are runs that the list does not contain.
        """
        started = {run.digest for run in self.runs}
        waiting = [item for item in self.planned if item["digest"] not in started and not item.get("not_chosen")
                   and not item.get("pruned_by")]
        unknown = len(started - {item["digest"] for item in self.planned})
        started_since = [item for item in waiting if item["digest"] is None][:unknown]
        return [item for item in waiting if not any(item is other for other in started_since)]

    @property
    def tuned(self) -> dict[str, tuple[str, str]]:
        """Of the runs of tuned configurations, by digest: what is equal for all values, and for all seeds of one."""
        return {item["digest"]: (str(item["group"]), str(item["value"])) for item in self.planned
                if item["digest"] and item.get("group") and item.get("value")}

    @property
    def pruned(self) -> list[ReportRun]:
        """Runs that a pruner stopped."""
        return [run for run in self.having("KILLED") if run.tags.get("inversion.failure") == "pruned"]

    @property
    def stopped_early(self) -> StoppedEarly:
        """What the pruner of a grid stopped."""
        configs = [item["config"] if isinstance(item.get("config"), dict) else {} for item in self.planned]
        labels = with_differences([str(item["run"]) for item in self.planned], configs)
        pruned = [(label, item) for label, item in zip(labels, self.planned, strict=True) if item.get("pruned_by")]
        return StoppedEarly(tuple(sorted({str(item["pruned_by"]) for _, item in pruned})),
                            {label: int(item["epoch"]) for label, item in pruned if item.get("epoch")},
                            sum(not item.get("epoch") for _, item in pruned))

    @property
    def timed_out(self) -> list[ReportRun]:
        """Runs that have trained for as long as the study allows."""
        return [run for run in self.having("KILLED") if run.tags.get("inversion.failure") == "time_limit"]

    @property
    def hours(self) -> float:
        """Hours of all runs: training and evaluation if logged, else from start to end."""
        return sum(run.hours if run.working_hours is None else run.working_hours for run in self.runs)

    def having(self, *statuses: str) -> list[ReportRun]:
        """The runs with one of these MLflow statuses."""
        return [run for run in self.runs if run.status in statuses]


def shared_parameters(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """The resolved parameters that have the same value in all runs; empty without runs."""
    known = [run.parameters for run in runs if run.document]
    if not known:
        return {}
    first, *others = known
    return {name: value for name, value in first.items()
            if all(name in other and other[name] == value for other in others)}
