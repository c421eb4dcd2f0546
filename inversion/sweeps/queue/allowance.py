"""How many runs the workers of one command do together before they leave the rest in the queue (``--max-runs``)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from inversion.sweeps.queue.entry import Entry

COMMAND = "command"
"""User attribute of a claimed trial: the command whose worker has it. The next trial of an interrupted run has none, so
that the run may be taken again."""


@dataclass(frozen=True)
class Allowance:
    """``most`` runs for the workers of the command with this id."""

    command: str
    most: int

    @classmethod
    def of(cls, most: int | None) -> Allowance | None:
        """That of a new command; None if it has no limit."""
        return cls(uuid.uuid4().hex[:16], most) if most else None

    def taken(self, entries: Iterable[Entry]) -> list[Entry]:
        """The runs of the study that workers of the command have, or have ended."""
        return [entry for entry in entries if entry.trial.user_attrs.get(COMMAND) == self.command]

    def is_used_up(self, entries: Iterable[Entry]) -> bool:
        """Whether as many runs as are allowed have ended."""
        taken = self.taken(entries)
        return len(taken) >= self.most and not any(entry.is_open for entry in taken)
