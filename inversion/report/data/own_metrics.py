"""Metrics of the user's own in the runs of one study: those of one name and of different code are told apart."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from inversion.losses.outside import logged_name, metric_names
from inversion.report.data.study import ReportRun


def tell_apart(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """The runs, where a name that several metrics have is followed by the digest or version of each.

    ``sharpness`` becomes ``sharpness_3f2a9c1b`` if another run has a ``sharpness`` of another file content.
    """
    codes: dict[str, set[str]] = {}
    for run in runs:
        for full in _metrics_of(run):
            codes.setdefault(logged_name(full), set()).add(full)
    return [_renamed(run, {logged_name(full): _with_version(full) for full in _metrics_of(run)
                           if len(codes[logged_name(full)]) > 1}) for run in runs]


def _with_version(full: str) -> str:
    version = re.sub(r"\W", "_", full.rpartition("@")[2][:8])  # a name of a column, and in templates
    return f"{logged_name(full)}_{version}"


def _metrics_of(run: ReportRun) -> list[str]:
    return metric_names(str(run.parameters.get("metrics", "none")))


def _renamed(run: ReportRun, names: dict[str, str]) -> ReportRun:
    if not names:
        return run
    described = {names.get(name, name): said for name, said in run.document.get("metrics", {}).items()}
    return dataclasses.replace(run, document={**run.document, "metrics": described},
                               scores=None if run.scores is None else run.scores.rename(columns=names))
