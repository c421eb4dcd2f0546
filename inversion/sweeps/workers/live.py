"""The live table of a study on a terminal; one line per event where output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live

from inversion.console import Console, NamedRows, styled
from inversion.metrics import counted
from inversion.sweeps.queue.entry import WAITING, Entry, Snapshot, State, duration
from inversion.sweeps.queue.estimate import time_left
from inversion.sweeps.study.study import Study
from inversion.tracking.search import ID_DIGITS

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN_FINISHED = 8
SHOWN_FAILED = 8
SHOWN_QUEUED = 8

STYLES: dict[State, str] = {"queued": "dim", "interrupted": "yellow", "running": "cyan", "finished": "green",
                            "pruned": "dim", "not chosen": "dim", "stopped": "yellow",
                            "timed out": "yellow", "failed": "red", "deleted": "red"}
COMPARABLE = ("protocol", "data", "weights", "image_size", "test_limit", "lpips_weights")
"""Parameters in which the runs of a grid must agree for one of them to be called the best."""
TEST_PSNR = "test/psnr"


@dataclass(frozen=True)
class Measures:
    """What is shown of a study's runs.

    Attributes:
        reported: The metric that is reported after every epoch.
        direction: Whether it and the final metric are to ``maximize`` or to ``minimize``.
        final: The metric of a finished run: the objective of a search, which test scores must not choose for.
    """

    reported: str
    direction: str
    final: str = TEST_PSNR

    @property
    def is_search(self) -> bool:
        """Whether finished runs are those of a search."""
        return self.final != TEST_PSNR

    @property
    def label(self) -> str:
        """The final metric as the head of a column."""
        return self.final if self.is_search else "test PSNR"

    def final_of(self, entry: Entry) -> float | None:
        """The final metric of a finished run."""
        if self.is_search:
            return entry.trial.value if entry.state == "finished" else None
        return entry.scores.get(TEST_PSNR)


def measures_of(study: Study) -> Measures:
    """The measures of an open study."""
    return Measures(study.metric, study.direction, study.objective if study.search else TEST_PSNR)


class View:
    """Shows snapshots of a study.

    Args:
        console: where they are shown.
        title: what is shown: ``study smoke``.
        measures: what is shown of its runs.
        start: the command that starts a worker.
    """

    def __init__(self, console: Console, title: str, measures: Measures, start: str) -> None:
        self.console = console
        self.title = title
        self.measures = measures
        self.start = start
        self.seen: dict[int, State] = {}
        self.began = time.monotonic()
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> View:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def update(self, snapshot: Snapshot, workers: int) -> None:
        """Shows a new snapshot: all of it on a terminal, else only what has changed."""
        elapsed = timedelta(seconds=round(time.monotonic() - self.began))
        when = outlook(snapshot, workers, self.start, elapsed)
        if self.live:
            self.live.update(render(snapshot, self.title, self.measures, when), refresh=True)
        else:
            self._print_changes(snapshot, when)

    def _print_changes(self, snapshot: Snapshot, when: str) -> None:
        when = "" if snapshot.is_done else f" · {when}"
        for entry in snapshot.entries:
            before, now = self.seen.get(entry.root), entry.state
            if now != before and (self.seen or now == "running") and not (before is None and now == "queued"):
                self.console.print(f"[{snapshot.done}/{len(snapshot.entries)}{when}] {snapshot.label(entry)}: "
                                   f"{describe(entry, self.measures)}", soft_wrap=True)
        self.seen = {entry.root: entry.state for entry in snapshot.entries}


def outlook(snapshot: Snapshot, workers: int, start: str, elapsed: timedelta | None = None) -> str:
    """The elapsed and the remaining time; if nothing works on the study, how to ``start`` a worker."""
    since = f"elapsed {elapsed}" if elapsed is not None else ""
    if snapshot.is_done:
        return since
    if workers == 0 and not snapshot.having("running"):
        return f"no worker: start one with `{start}`"
    left = time_left(snapshot, workers)
    remaining = "remaining time unknown" if left is None else f"remaining about {left}"
    return " · ".join(filter(None, [since, remaining]))


def render(snapshot: Snapshot, title: str, measures: Measures, when: str) -> Group:
    """Counts and times, then the running, failed, most recently finished and next runs."""
    counts = styled(", ").join(styled(f"{number} {state}", STYLES[state]) for state, number in snapshot.counts.items())
    parts: list[RenderableType] = [styled("").join([styled(title, "bold"), styled(": "), counts])]
    if when:
        parts.append(styled(when))
    if running := snapshot.having("running"):
        parts += ["", _running_table(running, snapshot, measures)]
    if failed := snapshot.having("stopped", "timed out", "failed", "deleted"):
        parts.append("")
        for entry in failed[-SHOWN_FAILED:]:
            parts.append(styled("").join([styled(f"{entry.state} ", STYLES[entry.state]), styled(snapshot.label(entry)),
                                          styled(f": {describe(entry, measures)}")]))
        parts += _hidden(failed, SHOWN_FAILED)
    finished = [entry for entry in snapshot.having("finished", "pruned") if entry.state == "finished" or entry.epoch]
    if finished:  # without seeds that were not trained, because another one was pruned
        parts += ["", *_finished_table(finished, snapshot, measures)]
    if waiting := sorted(snapshot.having(*WAITING), key=lambda entry: entry.turn):
        rows = [(f"{entry.root:>4}  {snapshot.label(entry)}", _progress(entry) if entry.epoch else "")
                for entry in waiting[:SHOWN_QUEUED]]
        parts += ["", NamedRows(("   #  next", ""), rows), *_hidden(waiting, SHOWN_QUEUED)]
    return Group(*parts)


def _running_table(running: Sequence[Entry], snapshot: Snapshot, measures: Measures) -> NamedRows:
    hosts = [entry.owner.get("inversion.host", "") for entry in running]
    processes = [entry.owner.get("inversion.pid", "") for entry in running]
    metric = measures.reported
    columns, rows = ["running", "epoch", metric, "best (epoch)"], []
    for entry in running:
        latest, best = entry.latest_value, entry.best_value(measures.direction)
        rows.append([snapshot.label(entry), _progress(entry), "" if latest is None else _value(metric, latest),
                     "" if best is None else f"{_value(metric, best[0])} ({best[1]})"])
    for name, values in (("host", hosts), ("process", processes)):
        if len(set(values)) > 1:
            columns.append(name)
            for row, value in zip(rows, values, strict=True):
                row.append(value)
    return NamedRows(columns, rows)


def _finished_table(finished: Sequence[Entry], snapshot: Snapshot, measures: Measures) -> list[RenderableType]:
    """The runs that ended last, the last one first, below the best of all where they can be compared."""
    latest = sorted(finished, key=lambda entry: str(entry.trial.datetime_complete), reverse=True)
    rows = []
    best = best_of(finished, measures)
    if best is not None and len(finished) > 1:
        rows.append(_finished_row(best, f"best: {snapshot.label(best)}", measures))
    rows += [_finished_row(entry, snapshot.label(entry), measures) for entry in latest[:SHOWN_FINISHED]]
    return [NamedRows(("finished", measures.label, "time", "run"), rows), *_hidden(latest, SHOWN_FINISHED)]


def _finished_row(entry: Entry, label: str, measures: Measures) -> tuple[str, str, str, str]:
    score = measures.final_of(entry)
    shown = "pruned" if entry.state == "pruned" else "" if score is None else _value(measures.final, score)
    return label, shown, str(_seconds(entry)), (entry.run_id or "")[:ID_DIGITS]


def best_of(finished: Sequence[Entry], measures: Measures) -> Entry | None:
    """The run with the best final metric; None if not all runs of a grid can be compared."""
    scored = [(score, entry) for entry in finished if (score := measures.final_of(entry)) is not None]
    kinds = {tuple(str(entry.config.get(name)) for name in COMPARABLE) for _, entry in scored}
    if not scored or (len(kinds) > 1 and not measures.is_search):
        return None
    choose = max if measures.direction == "maximize" or not measures.is_search else min
    return choose(scored, key=lambda pair: pair[0])[1]


def best_run(snapshot: Snapshot, measures: Measures) -> str | None:
    """The id of the finished run with the best final metric; None if not all runs can be compared."""
    best = best_of(snapshot.having("finished"), measures)
    return best.run_id if best else None


def _hidden(entries: Sequence[Entry], shown: int) -> list[RenderableType]:
    return [styled(f"and {len(entries) - shown} more", "dim")] if len(entries) > shown else []


def describe(entry: Entry, measures: Measures) -> str:
    """The state of one run in a few words."""
    match entry.state:
        case "running":
            value = entry.latest_value
            metric = measures.reported
            return f"epoch {_progress(entry)}" + ("" if value is None else f", {metric} {_value(metric, value)}")
        case "finished":
            score = measures.final_of(entry)
            shown = "" if score is None else _value(measures.final, score)
            where = f" (run {entry.run_id[:ID_DIGITS]})" if entry.run_id else ""
            return f"{measures.label} {shown} in {_seconds(entry)}{where}" if shown else "finished"
        case "failed":
            return entry.failure
        case "pruned" | "not chosen" | "stopped" | "timed out":
            return str(entry.trial.user_attrs.get("failure_message", entry.state))
        case "deleted":
            return "its run was deleted in MLflow"
        case "interrupted":
            return "waiting to resume from its last checkpoint"
    return "queued"


def _progress(entry: Entry) -> str:
    return f"{entry.epoch}/{entry.epochs or '?'}"


def _seconds(entry: Entry) -> timedelta:
    return timedelta(seconds=round(duration(entry.trial.datetime_start, entry.trial.datetime_complete)))


def _value(metric: str, value: float) -> str:
    """A metric with its unit; earlier versions stored 1.8e308 for the PSNR of identical images."""
    return f"{float(counted(value)):.2f} dB" if metric.endswith("psnr") else f"{value:.3f}"
