"""The live table of a study on a terminal; one line per event where output is not a terminal."""

from __future__ import annotations

from datetime import timedelta
from types import TracebackType

from rich.console import Group
from rich.live import Live

from inversion.console import Console, make_table, styled
from inversion.metrics import counted
from inversion.sweeps.queue.entry import Entry, Snapshot, State, duration

SHOWN_FINISHED = 8
SHOWN_FAILED = 8
STYLES: dict[State, str] = {"queued": "dim", "interrupted": "yellow", "running": "cyan", "finished": "green",
                            "pruned": "dim", "not chosen": "dim", "failed": "red", "deleted": "red"}


class View:
    """Shows snapshots of a study; ``metric`` is the one that is reported after every epoch."""

    def __init__(self, console: Console, title: str, metric: str, workers: int) -> None:
        self.console = console
        self.title = title
        self.metric = metric
        self.workers = workers
        self.seen: dict[int, State] = {}
        self.live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> View:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    def update(self, snapshot: Snapshot) -> None:
        """Shows a new snapshot: all of it on a terminal, else only what has changed."""
        if self.live:
            self.live.update(render(snapshot, self.title, self.metric, self.workers), refresh=True)
        else:
            self._print_changes(snapshot)

    def _print_changes(self, snapshot: Snapshot) -> None:
        done = len(snapshot.having("finished", "pruned", "not chosen", "failed"))
        left = f", {_left(snapshot.time_left(self.workers))}" if not snapshot.is_done else ""
        for entry in snapshot.entries:
            before, now = self.seen.get(entry.root), entry.state
            if now != before and (self.seen or now == "running") and not (before is None and now == "queued"):
                self.console.print(f"[{done}/{len(snapshot.entries)}{left}] {entry.name}: "
                                   f"{describe(entry, self.metric)}", soft_wrap=True)
        self.seen = {entry.root: entry.state for entry in snapshot.entries}


def render(snapshot: Snapshot, title: str, metric: str, workers: int) -> Group:
    """Counts and time left, then the running, failed and most recently finished runs."""
    counts = styled(", ").join(styled(f"{number} {state}", STYLES[state]) for state, number in snapshot.counts.items())
    head = styled("").join([styled(title, "bold"), styled(": "), counts])
    if not snapshot.is_done:
        head.append(f"; {_left(snapshot.time_left(workers))}")
    finished = sorted(snapshot.having("finished", "pruned"), key=lambda entry: str(entry.trial.datetime_complete))
    failed = snapshot.having("failed", "deleted")
    table = make_table("run", "state", "", box=None, padding=(0, 2, 0, 0), show_header=False)
    for entry in [*snapshot.having("running"), *failed[-SHOWN_FAILED:], *reversed(finished[-SHOWN_FINISHED:])]:
        table.add_row(entry.name, styled(entry.state, STYLES[entry.state]), describe(entry, metric))
    hidden = max(0, len(finished) - SHOWN_FINISHED) + max(0, len(failed) - SHOWN_FAILED)
    return Group(head, table, styled(f"and {hidden} more", "dim") if hidden else styled(""))


def describe(entry: Entry, metric: str) -> str:
    """The state of one run in a few words."""
    seconds = timedelta(seconds=round(duration(entry.trial.datetime_start, entry.trial.datetime_complete)))
    match entry.state:
        case "running":
            value = entry.latest_value
            shown = "" if value is None else f", {metric} {_value(metric, value)}"
            return f"epoch {entry.epoch}/{entry.epochs or '?'}{shown}{_where(entry)}"
        case "finished":
            scores = entry.scores
            shown = _value("test/psnr", scores["test/psnr"]) if "test/psnr" in scores else ""
            return f"test PSNR {shown} in {seconds}" if shown else "finished"
        case "failed":
            return entry.failure
        case "pruned" | "not chosen":
            return str(entry.trial.user_attrs.get("failure_message", "pruned"))
        case "deleted":
            return "its run was deleted in MLflow"
        case "interrupted":
            return "waiting to resume from its last checkpoint"
    return "queued"


def _value(metric: str, value: float) -> str:
    """A metric with its unit; earlier versions stored 1.8e308 for the PSNR of identical images."""
    return f"{float(counted(value)):.2f} dB" if metric.endswith("psnr") else f"{value:.2f}"


def _where(entry: Entry) -> str:
    return f" ({entry.owner.get('inversion.host')}, process {entry.owner.get('inversion.pid')})" if entry.owner else ""


def _left(time_left: timedelta | None) -> str:
    return "time left unknown" if time_left is None else f"about {time_left} left"
