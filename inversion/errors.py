"""The errors a user can cause or meet, each with the exit code and the failure kind that it is recorded under.

Every message is one line that names what was wrong, where, what is allowed and, where there is one, the nearest match.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InversionError(Exception):
    """Something ran and failed (exit code 1).

    ``kind`` is what the MLflow tag ``inversion.failure`` says of a run that it ended, ``status`` that run's status.
    """

    exit_code = 1
    kind = "error"
    status = "FAILED"


class RequestError(InversionError):
    """The request was wrong, and nothing was started (exit code 2)."""

    exit_code = 2
    kind = "request"


class UnknownNameError(RequestError):
    """A name that is not among the known ones: lists them and suggests the nearest."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = list(known)
        message = f"{what} {name!r}. Known: {', '.join(names)}."
        if nearest := difflib.get_close_matches(name, names, n=1):
            message += f" Did you mean {nearest[0]!r}?"
        super().__init__(message)


class SeveralErrors(RequestError):  # noqa: N818
    """Everything that is wrong with a request, told together: ``lines`` holds one line for each error."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


class MissingArtifactError(RequestError):
    """A run without the artifact that is asked for."""

    kind = "artifact_missing"


class DamagedArtifactError(RequestError):
    """An artifact of a run, or a file of a model, that is there and cannot be used."""

    kind = "artifact_damaged"


class DataError(RequestError):
    """Photographs that are missing or cannot be used."""

    kind = "data"


class WeightsError(RequestError):
    """Encoder or LPIPS weights that are missing or do not fit."""

    kind = "weights"


class FallbackRefusedError(RequestError):
    """What was asked for is out of reach, and ``strict`` allows nothing else in its place."""


class NonFiniteError(InversionError):
    """A loss term or a gradient became infinite or NaN."""

    kind = "nonfinite"


class OutOfMemoryError(InversionError):
    """The device has too little memory for the run."""

    kind = "oom"


class InterruptedRunError(InversionError):
    """A stop was requested before the run was done; its last checkpoint is saved (exit code 130)."""

    exit_code = 130
    kind = "interrupted"
    status = "KILLED"


class PrunedRunError(InversionError):
    """The pruner of a search stopped the run as not promising."""

    kind = "pruned"
    status = "KILLED"


class AbandonedRunError(InversionError):
    """Another process has taken over the run, because this one sent no heartbeat in time: it writes nothing more."""

    kind = "abandoned"
