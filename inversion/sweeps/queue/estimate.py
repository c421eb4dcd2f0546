"""How long the rest of a study takes, estimated from the measured durations of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import fmean

from inversion.sweeps.queue.entry import WAITING, Entry, Snapshot, duration

TRAIN_SECONDS = "train_seconds"


@dataclass(frozen=True)
class _Cost:
    """The seconds that a whole run took or will take, and its maximum number of epochs if that is known."""

    kind: tuple[str, ...] | None
    seconds: float
    epochs: int | None


def time_left(snapshot: Snapshot, workers: int) -> timedelta | None:
    """The time until every run is done, if the workers stay.

    A waiting run is expected to take as long as the finished ones per epoch asked for, those with the same encoder,
    decoder and fusion if there are any. Of a run that was interrupted or is in progress, what is left of its epochs
    counts.

    Args:
        snapshot: the runs of the study.
        workers: the number of workers; runs in progress elsewhere count as workers too.

    Returns:
        None before the first run is finished or has completed an epoch.
    """
    at, finished, at_work = snapshot.at, snapshot.having("finished"), snapshot.having("running")
    costs = [_Cost(_kind(entry), _measured(entry), entry.epochs) for entry in finished]
    costs = costs or [_Cost(_kind(entry), pace * (entry.epochs or 1), entry.epochs) for entry in at_work
                      if (pace := _pace(entry, at)) is not None]
    if not costs:
        return None
    waiting = sum(snapshot.shares.get(entry.root, 1.0) * _expected(entry, costs) * _left_of(entry, entry.epoch)
                  for entry in snapshot.having(*WAITING))
    usual = _usual_share(finished)
    running = [_left_of_running(entry, at, costs, usual) for entry in at_work]
    busy = max(1, workers, len(running))
    return timedelta(seconds=round(max([(waiting + sum(running)) / busy, *running])))


def _kind(entry: Entry) -> tuple[str, ...] | None:
    """What the time of an epoch mainly depends on; None for a search's trial that waits."""
    config = entry.config
    return tuple(str(config.get(name)) for name in ("encoder", "decoder", "fusion")) if config else None


def _measured(entry: Entry) -> float:
    """Seconds of a finished run. Its last trial counts only the time since it was resumed, or since its result was
    found in MLflow; the run has logged the seconds of all its epochs."""
    last = duration(entry.trial.datetime_start, entry.trial.datetime_complete)
    return max(last, entry.scores.get(TRAIN_SECONDS, 0.0))


def _expected(entry: Entry, costs: Sequence[_Cost]) -> float:
    """Seconds of a whole run, from those with the same kind if there are any."""
    alike = [cost for cost in costs if cost.kind == _kind(entry)] or costs
    epochs = entry.epochs
    if epochs is None:
        return fmean(cost.seconds for cost in alike)
    return fmean(cost.seconds / cost.epochs * epochs if cost.epochs else cost.seconds for cost in alike)


def _left_of(entry: Entry, done: int) -> float:
    """The share of its epochs that is left when ``done`` are done."""
    return max(0.0, 1 - done / entry.epochs) if entry.epochs else 1.0


def _pace(entry: Entry, at: datetime) -> float | None:
    """Seconds per epoch of a run in progress, since it was started or resumed; None before the first epoch."""
    done = entry.epoch - entry.resumed_after
    return duration(entry.trial.datetime_start, at) / done if done > 0 and entry.epochs else None


def _usual_share(finished: Sequence[Entry]) -> float:
    """The share of its epochs that a run takes until early stopping ends it."""
    shares = [entry.epoch / entry.epochs for entry in finished if entry.epochs and entry.epoch]
    return fmean(shares) if shares else 1.0


def _left_of_running(entry: Entry, at: datetime, costs: Sequence[_Cost], usual: float) -> float:
    """Seconds that a run in progress still takes: by runs of its kind, else by its own pace, else by all runs."""
    elapsed = duration(entry.trial.datetime_start, at)
    by_others = _expected(entry, costs) * _left_of(entry, entry.resumed_after) - elapsed
    pace = _pace(entry, at)
    if pace is None or not entry.epochs or (by_others > 0 and any(cost.kind == _kind(entry) for cost in costs)):
        return max(0.0, by_others)
    return pace * max(usual * entry.epochs - entry.epoch, min(1, entry.epochs - entry.epoch))
