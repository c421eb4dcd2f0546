"""Errors that a user can cause or see, each with its exit code and the failure kind that MLflow records.

Every message is one line: what is wrong, where, what is allowed and, if there is one, the nearest match.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InversionError(Exception):
    """A run failed after it had started (exit code 1).

    ``kind`` is the value of the failed run's tag ``inversion.failure``, ``status`` the run's final MLflow status.
    """

    exit_code = 1
    kind = "error"
    status = "FAILED"


class RequestError(InversionError):
    """An invalid request; nothing was started (exit code 2)."""

    exit_code = 2
    kind = "request"


class UnknownNameError(RequestError):
    """An unknown name; the message lists the known names and suggests ``meant``, or else the nearest.

    ``note`` says what the name is elsewhere; with a note alone, nothing is suggested.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], meant: str = "", note: str = "") -> None:
        names = list(known)
        message = f"{what} {name!r}{f': {note}' if note else ''}. Known: {', '.join(names)}."
        nearest = [] if note else difflib.get_close_matches(name, names, n=1)
        if suggested := [meant] if meant else nearest:
            message += f" Did you mean {suggested[0]!r}?"
        super().__init__(message)


class SeveralErrors(RequestError):  # noqa: N818
    """All errors of a request, reported together; ``lines`` holds one line for each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


class MissingArtifactError(RequestError):
    """The run does not have the requested artifact."""

    kind = "artifact_missing"


class DamagedArtifactError(RequestError):
    """An artifact of a run, or a file of a packed model, is corrupt or does not fit."""

    kind = "artifact_damaged"


class DataError(RequestError):
    """Photographs are missing or unusable."""

    kind = "data"


class WeightsError(RequestError):
    """Encoder or LPIPS weights are missing or do not fit the model."""

    kind = "weights"


class FallbackRefusedError(RequestError):
    """Something requested is unavailable, and ``strict`` does not allow a fallback."""


class NonFiniteError(InversionError):
    """Features, a loss term or a gradient became infinite or NaN."""

    kind = "nonfinite"


class OutOfMemoryError(InversionError):
    """The device does not have enough memory for the run."""

    kind = "oom"


class InterruptedRunError(InversionError):
    """The run was interrupted before it was complete; its last checkpoint is saved (exit code 130)."""

    exit_code = 130
    kind = "interrupted"
    status = "KILLED"


class StoppedRunError(InversionError):
    """A user asked to stop the run; its last checkpoint is saved, and it is resumed on request."""

    kind = "stopped"
    status = "KILLED"


class TimeLimitError(InversionError):
    """The run has trained for as long as its study allows; its last checkpoint is saved, and a larger limit resumes it.
    """

    kind = "time_limit"
    status = "KILLED"


class PrunedRunError(InversionError):
    """The pruner of a search stopped the run."""

    kind = "pruned"
    status = "KILLED"


class AbandonedRunError(InversionError):
    """Another process took over the run after this one missed its heartbeats; this one writes nothing more."""

    kind = "abandoned"
