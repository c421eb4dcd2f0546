"""Reads ``search:`` of a spec."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from inversion.config.run_config import parse_value
from inversion.errors import UnknownNameError
from inversion.sweeps.spec.engines import PRUNERS, SAMPLERS, Engine
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.search import BEST_PSNR, METRICS, Choices, Distribution, Search
from inversion.sweeps.spec.sections import Settings, check_names, read_settings, read_text
from inversion.sweeps.spec.space import read_space, try_space
from inversion.sweeps.spec.values import default
from inversion.sweeps.spec.yaml_marks import Scalar, Section, Value


class _Counts(Settings):
    trials: Annotated[int, Field(ge=1, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


KEYS = ("metric", "direction", "trials", "seed", "sampler", "pruner", "space")


def read_search(value: Value, base: Mapping[str, Scalar], problems: Problems) -> Search | None:
    """The search; None if problems were noted."""
    if not isinstance(value, Section):
        problems.add(value.where, f"search is a mapping of {', '.join(KEYS)}")
        return None
    check_names(value, KEYS, "search has no", problems)
    counts = {name: entry for name, entry in value.entries.items() if name in _Counts.model_fields}
    numbers = read_settings(_Counts, Section(counts, value.keys, value.where), "search", problems)
    sampler = _read_engine("sampler", SAMPLERS, "tpe", value, problems)
    pruner = _read_engine("pruner", PRUNERS, "none", value, problems)
    space_value = value.entries.get("space", Scalar("", value.where))
    space = read_space(space_value, base, problems)
    if isinstance(space_value, Section) and len(space) == len(space_value.entries) > 0:
        try_space(value.keys["space"], base, space, problems)
    metric = _read_metric(value, base, space, problems)
    if sampler:
        _check_sampler(sampler, space, value, problems)
    if pruner:
        pruner = _with_epochs(pruner, base, space, value, problems)
    if problems.lines or not (numbers and sampler and pruner and metric):
        return None
    return Search(metric=metric, direction=METRICS[metric], trials=numbers.trials, seed=numbers.seed,
                  sampler=sampler, pruner=pruner, space=space)


def _read_engine(
    kind: str, known: Mapping[str, type[Settings]], standard: str, section: Section, problems: Problems
) -> Engine | None:
    """A name, or a mapping with the name and options."""
    value = section.entries.get(kind, Scalar(standard, section.where))
    entries = dict(value.entries) if isinstance(value, Section) else {"name": value}
    if "name" not in entries:
        problems.add(value.where, f"{kind}: a name is missing, as in {{name: {standard}}}")
        return None
    scalar = read_text(kind, entries.pop("name"), problems)
    if scalar is None:
        return None
    if scalar.text not in known:
        problems.add(scalar.where, str(UnknownNameError(f"unknown {kind}", scalar.text, known)))
        return None
    options = Section(entries, value.keys if isinstance(value, Section) else {}, value.where)
    settings = read_settings(known[scalar.text], options, f"{kind} {scalar.text}", problems)
    if settings is None:
        return None
    return Engine(name=scalar.text, options=settings.model_dump(exclude_unset=True, exclude_none=True))


def _read_metric(
    section: Section, base: Mapping[str, Scalar], space: Mapping[str, Distribution], problems: Problems
) -> str | None:
    value = read_text("metric", section.entries.get("metric", Scalar(BEST_PSNR, section.where)), problems)
    if value is None:
        return None
    metric, where = value.text, value.where
    if metric not in METRICS:
        problems.add(where, _why_not(metric))
        return None
    direction = section.entries.get("direction")
    if direction is not None and direction != Scalar(METRICS[metric], direction.where):
        problems.add(direction.where, f"direction: {metric} is to {METRICS[metric]}; leave direction out")
    if "lpips_weights" in base and base["lpips_weights"].text == "off":
        if metric == "val/lpips":
            problems.add(where, "metric: val/lpips is not measured with lpips_weights=off")
        if "lpips_weight" in space:
            problems.add(section.keys["space"], "lpips_weight has no effect with lpips_weights=off")
    weights = [name for name in ("mse_weight", "lpips_weight") if name in space]
    if weights and metric in ("best/val_loss", "val/loss"):
        problems.add(where, f"metric: {metric} means something else in every trial when {' and '.join(weights)} may "
                            "vary. Optimise best/val_psnr, val/ssim, val/mse or val/lpips.")
    return metric


def _why_not(metric: str) -> str:
    if metric.startswith("test/"):
        return (f"metric: a search must not see the test images, so {metric} cannot be optimised. "
                "Optimise a validation metric, such as best/val_psnr.")
    if metric.startswith("train/"):
        return f"metric: {metric} is measured on the training images. Optimise a validation metric, as best/val_psnr."
    return str(UnknownNameError("metric: no run logs a validation metric", metric, METRICS))


def _check_sampler(sampler: Engine, space: Mapping[str, Distribution], section: Section, problems: Problems) -> None:
    where = section.entries.get("sampler", section).where
    texts = [name for name, distribution in space.items() if isinstance(distribution, Choices)]
    if sampler.name == "cmaes" and texts:
        problems.add(where, f"CMA-ES samples numbers only: {', '.join(texts)} is categorical. Use tpe, gp or random.")
    if sampler.name == "cmaes" and importlib.util.find_spec("cmaes") is None:
        problems.add(where, "sampler cmaes needs a package that is not installed. Install it with: pip install cmaes")


def _with_epochs(
    pruner: Engine, base: Mapping[str, Scalar], space: Mapping[str, Distribution], section: Section, problems: Problems
) -> Engine:
    """Hyperband has to know the most epochs a trial can have; Optuna would guess it from the first that ended."""
    if pruner.name != "hyperband":
        return pruner
    ends = space["epochs"].ends() if "epochs" in space else [base["epochs"].text] if "epochs" in base else []
    most = max([int(parse_value("epochs", end)) for end in ends], default=default("epochs"))
    options = {"max_resource": most} | pruner.options
    if options.get("min_resource", 1) > options["max_resource"]:
        problems.add(section.entries["pruner"].where, f"min_resource {options['min_resource']} is above max_resource "
                                                      f"{options['max_resource']} (epochs)")
    return Engine(name=pruner.name, options=options)
