"""The errors a user can cause or meet, each with the exit code and the failure kind that it is recorded under.

Every message is one line that names what was wrong, where, what is allowed and, where there is one, the nearest match.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InversionError(Exception):
    """Something ran and failed (exit code 1). ``kind`` is what the MLflow tag ``inversion.failure`` says."""

    exit_code = 1
    kind = "error"


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


class DataError(RequestError):
    """Photographs that are missing or cannot be used."""

    kind = "data"


class WeightsError(RequestError):
    """Encoder or LPIPS weights that are missing or do not fit."""

    kind = "weights"


class NonFiniteError(InversionError):
    """A loss term or a gradient became infinite or NaN."""

    kind = "nonfinite"


class OutOfMemoryError(InversionError):
    """The device has too little memory for the run."""

    kind = "oom"


class InterruptedRunError(InversionError):
    """The run was asked to stop before it was done; its last checkpoint is safe (exit code 130)."""

    exit_code = 130
    kind = "interrupted"
