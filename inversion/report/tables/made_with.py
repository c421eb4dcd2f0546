"""What the runs of a study were made with: versions, commits, and the parameters that all of them share."""

from __future__ import annotations

from inversion.report.data.study_data import StudyData, shared_parameters
from inversion.tracking.ownership import COMMIT

VERSION = "inversion.version."


def versions_of(data: StudyData) -> dict[str, str]:
    """Versions and commits that the runs were made with: one of each, or all that there were."""
    found: dict[str, set[str]] = {}
    for run in data.runs:
        for name, value in run.tags.items():
            if name.startswith(VERSION) or name == COMMIT:
                found.setdefault(name.removeprefix(VERSION).removeprefix("inversion."), set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}


def parameters_of(data: StudyData) -> dict[str, str]:
    """The resolved parameters that have the same value in every run, as they are written in a spec."""
    shared = shared_parameters(data.runs)
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in shared.items()}
