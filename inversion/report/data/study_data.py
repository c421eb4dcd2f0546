"""A study as the tracking server has it: its runs with their scores, what failed and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow.entities import Run

from inversion.report.data.labels import name_of
from inversion.tracking.study import DIGEST


@dataclass(frozen=True)
class ReportRun:
    """One run of the study. ``scores`` has a row for each test image: ``image, psnr, ssim, lpips, mse``.

    ``problem`` says what of it cannot be read; without its configuration the document is empty.
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
        """What its configuration says; the name in MLflow can be edited."""
        return name_of(self.document) if self.document else str(self.run.info.run_name or self.run_id)

    @property
    def digest(self) -> str | None:
        """What stands for its configuration."""
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

    @property
    def is_scored(self) -> bool:
        """Whether it is finished and its test scores are there, each a finite number."""
        return (self.status == "FINISHED" and self.scores is not None
                and bool(np.isfinite(self.scores[["psnr", "ssim"]]).all(axis=None)))

    @property
    def images(self) -> frozenset[str]:
        """Names of the test images that it was scored on."""
        return frozenset() if self.scores is None else frozenset(self.scores["image"])

    @property
    def hours(self) -> float:
        """Hours from its beginning to its end, as the tracking server has them."""
        start, end = self.run.info.start_time, self.run.info.end_time
        return (end - start) / 3.6e6 if start and end else 0.0

    @property
    def working_hours(self) -> float | None:
        """Hours of training and evaluation, waiting and interruptions left out; None where they were not logged."""
        seconds = [self.metrics.get(name) for name in ("train_seconds", "eval_seconds")]
        known = [value for value in seconds if value is not None]
        return sum(known) / 3600 if len(known) == len(seconds) else None


@dataclass(frozen=True)
class StudyData:
    """All that the tracking server knows of a study."""

    name: str
    parent: Run
    runs: Sequence[ReportRun]
    planned: Sequence[Mapping[str, Any]] = ()
    references: Sequence[ReportRun] = ()
    spec: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()

    @property
    def missing(self) -> list[str]:
        """Names of the runs that were queued and have not begun, or were deleted since."""
        return [str(item["run"]) for item in self.absent]

    @property
    def deleted(self) -> list[str]:
        """Names of those that had begun and were deleted in MLflow."""
        return [str(item["run"]) for item in self.absent if item.get("is_deleted")]

    @property
    def absent(self) -> list[Mapping[str, Any]]:
        """What was queued and is not there.

        A trial of a search has no digest before it begins, and the list of what was queued may be older than that: as
        many of these have begun as there are runs that the list does not know.
        """
        begun = {run.digest for run in self.runs}
        waiting = [item for item in self.planned if item["digest"] not in begun]
        unknown = len(begun - {item["digest"] for item in self.planned})
        begun_since = [item for item in waiting if item["digest"] is None][:unknown]
        return [item for item in waiting if not any(item is other for other in begun_since)]

    @property
    def pruned(self) -> list[ReportRun]:
        """Runs that the search gave up, as it should."""
        return [run for run in self.having("KILLED") if run.tags.get("inversion.failure") == "pruned"]

    @property
    def hours(self) -> float:
        """Hours of work of all runs: training and evaluation where they were logged, else from beginning to end."""
        return sum(run.hours if run.working_hours is None else run.working_hours for run in self.runs)

    def having(self, *statuses: str) -> list[ReportRun]:
        """The runs with one of these statuses in MLflow."""
        return [run for run in self.runs if run.status in statuses]


def shared_parameters(runs: Sequence[ReportRun]) -> dict[str, Any]:
    """The resolved parameters that have one value in all runs; no run, no parameter."""
    known = [run.parameters for run in runs if run.document]
    if not known:
        return {}
    first, *others = known
    return {name: value for name, value in first.items()
            if all(name in other and other[name] == value for other in others)}
