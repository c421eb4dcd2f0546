"""What ``--logs`` prints: the end of a run's log, wherever its worker is, and with ``--follow`` what is added to it."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import PurePosixPath

from inversion.console import Console, make_console
from inversion.errors import RequestError
from inversion.sweeps.opening import Options, open_existing, service_errors
from inversion.sweeps.queue.entry import Entry
from inversion.sweeps.queue.selection import select_one
from inversion.sweeps.study.study import Study
from inversion.sweeps.workers.driver import read_snapshot
from inversion.sweeps.workers.live import describe, measures_of
from inversion.sweeps.workers.run_log import FOLDER, log_folder
from inversion.tracking.artifacts import fetch_text
from inversion.tracking.connection import Connection

LINES = 40
"""How many lines of a log are printed at first."""

LOCAL_SECONDS, REMOTE_SECONDS = 1.0, 10.0
"""How often a log is read while it is followed: a file, and an artifact, which is uploaded once a minute."""


def show_log(name: str, text: str, options: Options) -> int:
    """Prints the end of a run's log; with ``follow`` also what its worker adds, until it ends or Ctrl-C.

    Raises:
        RequestError: there is no such study or run, or the run has no log.
        InversionError: the tracking store or the queue does not answer or rejects a request.
    """
    console = make_console()
    with service_errors():
        study, connection = open_existing(name, options)
        snapshot = read_snapshot(study.queue)
        entry = select_one(snapshot, text, name)
        log = Log(connection, name, entry)
        console.note(f"run {entry.run_id or entry.root} ({snapshot.label(entry)}): "
                     f"{entry.state if entry.state != 'running' else describe(entry, measures_of(study))}")
        lines = log.new_lines()
        if not lines:
            raise RequestError(_why_none(entry))
        _print(lines[-LINES:], console)
        if options["follow"]:
            with suppress(KeyboardInterrupt):
                _follow(study, entry, log, console)
    return 0


class Log:
    """The log of a run: files of workers on this machine, and artifacts that were uploaded here or elsewhere.

    Args:
        connection: the tracking store.
        study: the study of the run.
        entry: the run.
    """

    def __init__(self, connection: Connection, study: str, entry: Entry) -> None:
        self.connection = connection
        self.run_id = entry.run_id
        self.folder = log_folder(study, entry.run_id or "")
        self.is_local = False
        self._read: dict[str, str] = {}
        self._printed: dict[str, int] = {}

    def new_lines(self) -> list[str]:
        """The lines that are new since the last call."""
        found = []
        for name, text in sorted(self._texts().items()):
            lines = text.split("\n")[:-1]  # whole lines: the last one may just be written
            found += lines[self._printed.get(name, 0):]
            self._printed[name] = len(lines)
        return found

    def _texts(self) -> dict[str, str]:
        """The parts of the log by name, which begins with the time. Only the last part can have grown."""
        if self.run_id is None:
            return {}
        local = {}
        for file in self.folder.glob("*.log"):
            with suppress(FileNotFoundError):  # the run has ended, and its log is uploaded
                local[file.name] = file.read_text(encoding="utf-8", errors="replace")
        self.is_local = bool(local)
        items = self.connection.client.list_artifacts(self.run_id, FOLDER)
        uploaded = sorted(PurePosixPath(item.path).name for item in items)
        for name in uploaded:
            if name not in local and (name not in self._read or name == uploaded[-1]):
                self._read[name] = fetch_text(self.run_id, f"{FOLDER}/{name}")
        self._read |= local
        return self._read


def _follow(study: Study, entry: Entry, log: Log, console: Console) -> None:
    """Prints what is added to a log until its run has no worker: its last lines are written before it is released."""
    state = entry.state
    while state == "running":
        time.sleep(LOCAL_SECONDS if log.is_local else REMOTE_SECONDS)
        state = next((now.state for now in read_snapshot(study.queue).entries if now.root == entry.root), "deleted")
        _print(log.new_lines(), console)


def _print(lines: list[str], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _why_none(entry: Entry) -> str:
    """Why a run has no log, and where else its worker's log is."""
    begun = "has no log: it was trained by another version" if entry.run_id else "has no log yet: it has not begun"
    why = f" ({entry.failure})" if entry.state in ("failed", "stopped", "timed out") else ""
    host = entry.owner.get("inversion.host")
    place = f". The logs of the workers on {host} are in sweeps/ in its data folder" if host else ""
    return f"run {entry.name} {begun}{why}{place}"
