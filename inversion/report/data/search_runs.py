"""The search that a study is, from what the tracking server has: its spec, its runs, and its list of trials."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from inversion.metrics import counted
from inversion.objectives import BEST_PSNR, OBJECTIVES, Objective
from inversion.report.data.collect import histories
from inversion.report.data.searching import FINISHED, Range, Search, Trial
from inversion.report.data.study import ReportRun, StudyData
from inversion.tracking.connection import Connection

_logger = logging.getLogger(__name__)


def search_of(connection: Connection, data: StudyData) -> Search | None:
    """The trials of a study that is a search; None for a grid."""
    section = _section(data.spec)
    if section is None:
        return None
    metric, space = str(section.get("metric") or BEST_PSNR), section.get("space")
    space = space if isinstance(space, dict) else {}
    if metric not in OBJECTIVES:
        _logger.warning("study %s optimises %s, which this version of inversion does not know: nothing is ranked",
                        data.name, metric)
    objective = Objective(metric, OBJECTIVES.get(metric, "maximize"))
    values = _values(connection, metric, data.runs) if metric in OBJECTIVES else {}
    names = tuple(map(str, space))
    numbers = _numbers(data)
    trials = [Trial(numbers[run.run_id], run.name, _state(run), values.get(run.run_id),
                    {name: run.parameters[name] for name in names if name in run.parameters}, run.run_id,
                    run.tags.get("inversion.failure_message", ""), run.metrics) for run in data.runs]
    return Search(objective, names, sorted(trials, key=lambda trial: trial.number), _ranges(space))


def _section(specs: Mapping[str, str]) -> Mapping[str, Any] | None:
    """The section ``search`` of the first spec that has one. A study is a grid or a search, never both."""
    for name, text in specs.items():
        try:
            spec = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            _logger.warning("%s of the study cannot be read: %s", name, error)
            continue
        if isinstance(spec, dict) and isinstance(spec.get("search"), dict):
            return dict(spec["search"])
    return None


def _ranges(space: Mapping[str, Any]) -> dict[str, Range]:
    """The ends of the numbers of a space. YAML reads ``1e-5`` as a text."""
    found = {}
    for name, entry in space.items():
        if isinstance(entry, dict) and {"low", "high"} <= set(entry):
            try:
                ends = Range(float(entry["low"]), float(entry["high"]), str(entry.get("log")).lower() == "true")
            except (TypeError, ValueError):
                continue
            if ends.low < ends.high and (ends.low > 0 or not ends.log):
                found[str(name)] = ends
    return found


def _values(connection: Connection, metric: str, runs: Sequence[ReportRun]) -> dict[str, float]:
    """The objective of each finished run by id; of a metric that is logged by epoch, the value at the best epoch."""
    finished = {run.run_id: run for run in runs if run.status == "FINISHED"}
    if metric.startswith("best/"):
        found = {run_id: run.metrics.get(metric, math.nan) for run_id, run in finished.items()}
    else:
        by_epoch = histories(connection, {run_id: run_id for run_id in finished}, metric)
        found = {run_id: dict(by_epoch[run_id]).get(int(run.metrics.get("best_epoch", 0)), math.nan)
                 for run_id, run in finished.items()}
    if metric.endswith("psnr"):
        found = {run_id: float(counted(value)) for run_id, value in found.items()}
    return {run_id: value for run_id, value in found.items() if math.isfinite(value)}


def _numbers(data: StudyData) -> dict[str, int]:
    """The number of each run's trial, by run id: that of the queue's list, or else by the time that it started."""
    listed: dict[str, int] = {}
    for index, item in enumerate(data.planned):
        if item["digest"]:
            trial = item.get("trial")  # earlier versions did not log it
            listed.setdefault(item["digest"], trial if isinstance(trial, int) else index)
    begun = sorted(data.runs, key=lambda run: (run.run.info.start_time or 0, run.run_id))
    if all(run.digest in listed for run in begun):
        return {run.run_id: listed[str(run.digest)] for run in begun}
    return {run.run_id: number for number, run in enumerate(begun)}


def _state(run: ReportRun) -> str:
    """``finished``, ``pruned``, ``stopped``, ``timed out``, ``failed: oom``, ``interrupted`` or ``running``."""
    cause = run.tags.get("inversion.failure", "")
    if run.status == "FINISHED":
        return FINISHED
    if run.status == "KILLED":
        return {"time_limit": "timed out", "pruned": "pruned", "stopped": "stopped"}.get(cause, "interrupted")
    return f"failed: {cause}" if run.status == "FAILED" and cause else run.status.lower()
