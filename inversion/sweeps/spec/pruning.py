"""The section ``pruner`` of a spec: early stopping across the runs of a grid, by one of Optuna's pruners."""

from __future__ import annotations

from collections.abc import Sequence

from inversion.sweeps.spec.grid import Configuration
from inversion.sweeps.spec.search import PRUNERS, Algorithm
from inversion.sweeps.spec.search_section import read_algorithm
from inversion.sweeps.spec.source import ErrorCollector, Section

STARTUP_TRIALS = 5
"""Optuna's default of ``n_startup_trials``."""


def read_pruner(top: Section, configurations: Sequence[Configuration], errors: ErrorCollector) -> Algorithm | None:
    """The pruner of a grid with these runs; None if there is none, or it is wrong, or could stop no run."""
    if "pruner" not in top.entries:
        return None
    pruner, where = read_algorithm("pruner", PRUNERS, "none", top, errors), top.keys["pruner"]
    if pruner is None or pruner.name == "none":
        return None
    if "tune" in top.entries:
        errors.add(where, f"pruner and tune (at {top.keys['tune']}) exclude each other: a choice between values is one "
                          "between whole runs. Remove one of them.")
    if configurations:
        _require_effect(pruner, configurations, where, errors)
    return pruner


def _require_effect(pruner: Algorithm, configurations: Sequence[Configuration], where: str, errors: ErrorCollector
                    ) -> None:
    """Adds an error if the runs are too few or too short for the pruner to stop one."""
    configs = [each.config for each in configurations]
    count = len({tuple(config.model_dump(exclude={"seed"}).items()) for config in configs})
    epochs, options = max(config.epochs for config in configs), pruner.options
    needed = options.get("n_startup_trials", STARTUP_TRIALS) if pruner.name == "median" else 1
    if count <= needed:
        errors.add(where, f"pruner {pruner} would stop nothing: "
                          + (f"it waits until {needed} runs are finished (n_startup_trials), and "
                             if pruner.name == "median" else "") + f"the grid has {count} "
                          f"configuration{'' if count == 1 else 's'}"
                          + (". Give a smaller one, as in {name: median, n_startup_trials: 1}"
                             if pruner.name == "median" and count > 1 else ""))
    first = max(1, options.get("n_warmup_steps", 0)) if pruner.name == "median" else options.get("min_resource", 1)
    if first >= epochs:
        errors.add(where, f"pruner {pruner} would stop nothing: it is asked after epoch {first} at the earliest, and "
                          f"the runs have {epochs} epoch{'' if epochs == 1 else 's'}")
