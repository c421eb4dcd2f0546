"""The section ``limits`` of a spec: what each run of the study may use."""

from __future__ import annotations

from dataclasses import dataclass

from inversion.durations import parse_duration, show_duration
from inversion.sweeps.spec.source import ErrorCollector, Section, Value, check_keys, read_text

RUN_TIME = "run_time"


@dataclass(frozen=True)
class Limits:
    """The limits of each run; ``run_time`` is in seconds of training and validation, None for no limit."""

    run_time: float | None = None

    def __str__(self) -> str:
        return "none" if self.run_time is None else f"{RUN_TIME} {show_duration(self.run_time)} for each run"


def read_limits(value: Value | None, errors: ErrorCollector) -> Limits:
    """The limits; none if the section is missing or wrong."""
    if value is None:
        return Limits()
    if not isinstance(value, Section) or not value.entries:
        errors.add(value.where, f"limits is a mapping, as in limits: {{{RUN_TIME}: 2h}}")
        return Limits()
    check_keys(value, (RUN_TIME,), "limits has no", errors)
    if RUN_TIME in value.entries and (scalar := read_text(RUN_TIME, value.entries[RUN_TIME], errors)):
        with errors.collect(f"{scalar.where}: {RUN_TIME}"):
            return Limits(parse_duration(scalar.text))
    return Limits()
