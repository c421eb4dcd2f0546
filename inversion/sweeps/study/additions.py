"""What a request adds to a study that has other runs already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from inversion.config.distinguish import parameter_text, shown_parameters
from inversion.config.run_config import RunConfig
from inversion.sweeps.study.study import Study
from inversion.text import first_of

Parameters = Mapping[str, Any]
COMPARED = ("encoder", "decoder", "fusion", "seed")
RESOLVED = {"data", "weights", "lpips_weights", "lpips_weight", "precision"}
"""Parameters whose values may change when a run is queued."""


def describe_additions(study: str, new: Sequence[Parameters], others: Sequence[Parameters],
                       left_out: Collection[str] = ()) -> str | None:
    """A sentence if new runs will be beside others that the request does not ask for, with what differs; else None.

    Differences in the parameters ``left_out`` are not looked for.
    """
    if not new or not others:
        return None
    differing = [f"{name}={ours} beside {name}={theirs}" for name in (*COMPARED, *shown_parameters())
                 if name not in left_out and not (left := _values(new, name)) & (right := _values(others, name))
                 and (ours := first_of(sorted(left), 3)) and (theirs := first_of(sorted(right), 3))]
    how = f" ({', '.join(differing)})" if differing else ""
    return f"study {study}: adds {_runs(new)} beside {_runs(others)} that are not asked for now and stay{how}"


def _runs(runs: Sequence[Parameters]) -> str:
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}"


def _values(runs: Sequence[Parameters], name: str) -> set[str]:
    return {parameter_text(run, name) for run in runs}


def preview_additions(study: Study, configs: Sequence[RunConfig]) -> str | None:
    """As ``describe_additions`` for runs that are not resolved: they are compared by what a resolution leaves alone."""
    entries = study.queue.entries()
    asked, queued = {_key(config.model_dump()) for config in configs}, {_key(entry.config) for entry in entries}
    return describe_additions(study.name, [config.model_dump() for config in configs
                                           if _key(config.model_dump()) not in queued],
                              [entry.config for entry in entries if _key(entry.config) not in asked], RESOLVED)


def _key(parameters: Parameters) -> tuple[str, ...]:
    left = [name for name in (*COMPARED, *shown_parameters()) if name not in RESOLVED]
    return tuple(parameter_text(parameters, name) for name in left)
