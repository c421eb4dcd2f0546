"""What ``--notify`` tells of a sweep: that it is done, failed, interrupted, or stuck."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Literal

from inversion.errors import InterruptedRunError, RequestError
from inversion.notify import Target, send
from inversion.sweeps.queue.entry import UNFINISHED, Snapshot
from inversion.sweeps.study.study import Study
from inversion.sweeps.workers.live import best_of, measures_of
from inversion.tracking.connection import Connection
from inversion.tracking.masking import first_line
from inversion.tracking.pages import page_link

STUCK_SECONDS = 1800.0
USUAL_PAUSES = 3
"""A sweep is stuck if no run has completed an epoch or ended for ``STUCK_SECONDS``, and for so many times its longest
pause until then."""

DEATHS = 2
"""It is stuck too if so many workers died since then."""

State = Literal["done", "failed", "interrupted", "stuck"]


class Notice:
    """Sends what has become of a sweep when the block ends; nothing for a wrong request, or if nothing was worked on.

    Args:
        target: where to; None for nowhere.
        study: the name of the study.
    """

    def __init__(self, target: Target | None, study: str) -> None:
        self.target = target
        self.study = study
        self._known: dict[str, object] = {}
        self._state: State | None = None
        self._why = ""

    def __enter__(self) -> Notice:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if isinstance(error, InterruptedRunError | KeyboardInterrupt):
            self._send("interrupted", first_line(error))
        elif error is not None and not isinstance(error, RequestError):
            self._send("failed", first_line(error))
        elif error is None and self._state is not None:
            self._send(self._state, self._why)

    def ended(self, study: Study, connection: Connection, snapshot: Snapshot, interrupted: str | None) -> None:
        """Notes the last snapshot of the study, and why the sweep was interrupted if it was."""
        self._look(study, connection, snapshot)
        if interrupted is not None and not snapshot.is_done:
            self._state, self._why = "interrupted", interrupted
        else:
            self._state = "failed" if snapshot.having(*UNFINISHED) else "done"
            self._why = snapshot.counts_text

    def stuck(self, study: Study, connection: Connection, snapshot: Snapshot, why: str) -> None:
        """Sends that the sweep is stuck."""
        self._look(study, connection, snapshot)
        self._send("stuck", why)

    def _look(self, study: Study, connection: Connection, snapshot: Snapshot) -> None:
        measures = measures_of(study)
        best = best_of(snapshot.having("finished"), measures)
        self._known = {
            "counts": snapshot.counts,
            "best": best and {"name": snapshot.label(best), "run": best.run_id,
                              measures.final: measures.final_of(best)},
            "link": page_link(connection.uri, connection.experiment_id, study.parent.run_id)}

    def _send(self, state: State, message: str) -> None:
        if self.target is not None:
            send(self.target, {"study": self.study, "state": state, "message": message, "counts": {}, "best": None,
                               "link": None, **self._known})


class Progress:
    """Notices that a sweep makes no progress, and tells it once until it goes on.

    Args:
        tell: called with the snapshot and with what is wrong.
        clock: seconds that only ever increase.
    """

    def __init__(self, tell: Callable[[Snapshot, str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._reached: object = None
        self._since = clock()
        self._longest = 0.0
        self._deaths: list[str] = []
        self._told = False

    def died(self, message: str) -> None:
        """A worker died."""
        self._deaths.append(message)

    def look(self, snapshot: Snapshot) -> None:
        """Looks at the runs and at the time."""
        reached = snapshot.counts, sum(entry.epoch for entry in snapshot.entries)
        now = self._clock()
        pause = now - self._since
        if reached != self._reached:
            self._longest = max(self._longest, pause)
            self._reached, self._since, self._deaths, self._told = reached, now, [], False
        elif not self._told and (pause > max(STUCK_SECONDS, USUAL_PAUSES * self._longest)
                                 or len(self._deaths) >= DEATHS):
            self._told = True
            died = f"; {'; '.join(self._deaths)}" if self._deaths else ""
            self._tell(snapshot, f"no run has completed an epoch for {timedelta(seconds=round(pause))}{died}")
