"""Reads ``search:`` of a spec: the metric, the options of sampler and pruner, and the space."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping
from decimal import Decimal
from itertools import combinations, islice, product
from math import prod
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, create_model, model_validator

from inversion.config.parts import OUTSIDE, pinned
from inversion.config.run_config import MOST, RunConfig, parse_value, unknown_parameter
from inversion.errors import RequestError
from inversion.objectives import BEST_PSNR, COMPARABLE, OBJECTIVES
from inversion.sweeps.spec.grid import checked_config, expand_value, is_valid
from inversion.sweeps.spec.search import (
    PRUNERS,
    SAMPLERS,
    Algorithm,
    Choices,
    Distribution,
    FloatRange,
    IntRange,
    Search,
)
from inversion.sweeps.spec.source import (
    ErrorCollector,
    Items,
    Scalar,
    Section,
    Settings,
    Value,
    check_keys,
    read_settings,
    read_text,
)
from inversion.synonyms import METRICS, PARTS, unknown_name

KEYS = ("metric", "direction", "trials", "seed", "sampler", "pruner", "space")

_COMPARABLE = "validation scores of runs that differ in it cannot be compared"
_NO_EFFECT = "it changes no validation score"
NOT_SEARCHED = {
    **dict.fromkeys(COMPARABLE, _COMPARABLE),
    "seed": "the best of several seeds is luck; several seeds are an axis of a grid",
    **dict.fromkeys(("test_limit", "vgg_weights", "metrics", "data_dir", "device", "threads", "strict"), _NO_EFFECT),
}
"""Parameters that a search may not vary, each with the reason."""

MAX_COMBINATIONS = 4_096
"""Combinations of a space that are checked."""

NOT_OPTIONS = {"seed", "warn_independent_sampling", "consider_prior", "consider_magic_clip", "consider_endpoints",
               "inc_popsize"}
"""Numbers and switches of Optuna's samplers that a spec cannot set: ours, only about a warning, or deprecated."""

MAX_IN_MEMORY = 10_000
BOUNDS = {
    "n_ei_candidates": (1, MAX_IN_MEMORY), "popsize": (2, MAX_IN_MEMORY), "reduction_factor": (2, MOST),
    **dict.fromkeys(("min_resource", "max_resource", "interval_steps", "n_min_trials"), (1, MOST)),
}
"""Least and largest values of options, if not 0 and ``MOST``: Optuna would fail in the first trial, or later."""


class _Counts(Settings):
    trials: Annotated[int, Field(ge=1, le=100_000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


class _RangeSettings(Settings):
    """The keys of a range. ``low`` and ``high`` stay texts: they are checked as values of the parameter."""

    type: str = ""
    low: str
    high: str
    log: bool = False
    step: Annotated[Decimal, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _log_has_no_step(self) -> _RangeSettings:
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self


def read_search(value: Value, base: Mapping[str, Scalar], errors: ErrorCollector) -> Search | None:
    """The search; None if there are errors."""
    if not isinstance(value, Section):
        errors.add(value.where, f"search is a mapping of {', '.join(KEYS)}")
        return None
    check_keys(value, KEYS, "search has no", errors)
    counts = {name: entry for name, entry in value.entries.items() if name in _Counts.model_fields}
    numbers = read_settings(_Counts, Section(counts, value.keys, value.where), "search", errors)
    sampler = read_algorithm("sampler", SAMPLERS, "tpe", value, errors)
    pruner = read_algorithm("pruner", PRUNERS, "none", value, errors)
    space_value = value.entries.get("space", Scalar("", value.where))
    space = read_space(space_value, base, errors)
    if isinstance(space_value, Section) and len(space) == len(space_value.entries) > 0:
        _check_combinations(value.keys["space"], base, space, errors)
    metric = _read_metric(value, base, space, errors)
    if sampler:
        _check_sampler(sampler, space, value, errors)
    if pruner and pruner.name == "hyperband":
        pruner = _with_max_resource(pruner, base, space, value, errors)
    if errors.lines or not (numbers and sampler and pruner and metric):
        return None
    return Search(metric=metric, direction=OBJECTIVES[metric], trials=numbers.trials, seed=numbers.seed,
                  sampler=sampler, pruner=pruner, space=space)


# metric

def _read_metric(section: Section, base: Mapping[str, Scalar], space: Mapping[str, Distribution],
                 errors: ErrorCollector) -> str | None:
    value = read_text("metric", section.entries.get("metric", Scalar(BEST_PSNR, section.where)), errors)
    if value is None:
        return None
    metric, where = value.text, value.where
    if metric not in OBJECTIVES:
        errors.add(where, _reason_against(metric))
        return None
    direction = section.entries.get("direction")
    if direction is not None and direction != Scalar(OBJECTIVES[metric], direction.where):
        errors.add(direction.where, f"direction: the direction of {metric} is {OBJECTIVES[metric]}; leave direction "
                                    "out")
    if "lpips_weights" in base and base["lpips_weights"].text == "off":
        if metric == "val/lpips":
            errors.add(where, "metric: val/lpips is not measured with lpips_weights=off")
        if "lpips_weight" in space:
            errors.add(section.keys["space"], "lpips_weight has no effect with lpips_weights=off")
    weights = [name for name in ("mse_weight", "lpips_weight", "loss", "loss_weight") if name in space]
    if weights and metric in ("best/val_loss", "val/loss"):
        errors.add(where, f"metric: {metric} is not comparable between trials when {' and '.join(weights)} may vary. "
                          "Optimise best/val_psnr, val/ssim, val/mse or val/lpips.")
    return metric


def _reason_against(metric: str) -> str:
    if metric.startswith("test/"):
        return (f"metric: a search must not see the test images, so {metric} cannot be optimised. "
                "Optimise a validation metric, such as best/val_psnr.")
    if metric.startswith("train/"):
        return (f"metric: {metric} is measured on the training images. "
                "Optimise a validation metric, such as best/val_psnr.")
    return str(unknown_name("metric: unknown validation metric", metric, OBJECTIVES, METRICS))


# sampler and pruner

def read_algorithm(kind: str, known: Mapping[str, str], default: str, section: Section, errors: ErrorCollector
                   ) -> Algorithm | None:
    """The sampler or pruner of a section, written as a name or as a mapping with the name and options."""
    value = section.entries.get(kind, Scalar(default, section.where))
    entries = dict(value.entries) if isinstance(value, Section) else {"name": value}
    if "name" not in entries:
        errors.add(value.where, f"{kind}: the name is missing, as in {{name: {default}}}")
        return None
    scalar = read_text(kind, entries.pop("name"), errors)
    if scalar is None:
        return None
    name = scalar.text
    if name not in known:
        errors.add(scalar.where, str(unknown_name(f"unknown {kind}", name, known, PARTS[kind])))
        return None
    if not isinstance(value, Section) or not entries:
        return Algorithm(name=name)  # without options there is no need for Optuna
    what = f"{kind} {name}"
    settings = read_settings(options_of(kind, known[name]), Section(entries, value.keys, value.where), what, errors)
    if settings is None:
        return None
    options = settings.model_dump(exclude_unset=True, exclude_none=True)
    if options.get("group") and not options.get("multivariate"):
        errors.add(value.where, f"{what}: group: true needs multivariate: true")
    if sum(options.get(variant, False) for variant in ("use_separable_cma", "with_margin", "lr_adapt")) > 1:
        errors.add(value.where, f"{what}: only one of use_separable_cma, with_margin and lr_adapt can be true")
    return Algorithm(name=name, options=options)


def options_of(kind: str, class_name: str) -> type[Settings]:
    """The options of one of Optuna's samplers or pruners that a text can give: whole numbers and switches.

    Names, types and defaults are those of the class's signature. Optuna is imported, which takes a third of a second.
    """
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(getattr(importlib.import_module(f"optuna.{kind}s"), class_name)
                                             ).parameters.items():
        types = set(inspect.formatannotation(parameter.annotation).strip("'").split(" | "))
        if name in NOT_OPTIONS or not types & {"bool", "int"}:
            continue
        low, high = BOUNDS.get(name, (0, MOST))
        annotation: Any = bool if "bool" in types else Annotated[int, Field(ge=low, le=high)]
        if types & {"None", "str"}:  # the only text is "auto", which is the default
            annotation = Annotated[annotation | None, BeforeValidator(lambda text: None if text == "auto" else text)]
        fields[name] = (annotation, parameter.default)
    return create_model(class_name, __base__=Settings, **fields)


def _check_sampler(sampler: Algorithm, space: Mapping[str, Distribution], section: Section, errors: ErrorCollector
                   ) -> None:
    where = section.entries.get("sampler", section).where
    texts = [name for name, distribution in space.items() if isinstance(distribution, Choices)]
    if sampler.name == "cmaes" and texts:
        errors.add(where, f"CMA-ES samples numbers only: {', '.join(texts)} is categorical. Use tpe, gp or random.")
    if sampler.name == "cmaes" and importlib.util.find_spec("cmaes") is None:
        errors.add(where, "sampler cmaes needs a package that is not installed. Install it with: pip install cmaes")


def _with_max_resource(pruner: Algorithm, base: Mapping[str, Scalar], space: Mapping[str, Distribution],
                       section: Section, errors: ErrorCollector) -> Algorithm:
    """Hyperband has to know the most epochs that a trial can have; Optuna would take those of the first that ended."""
    epochs = (space["epochs"].extremes() if "epochs" in space else
              [base["epochs"].text if "epochs" in base else RunConfig.model_fields["epochs"].default])
    options = {"max_resource": max(parse_value("epochs", value) for value in epochs)} | pruner.options
    if options.get("min_resource", 1) > options["max_resource"]:
        errors.add(section.entries["pruner"].where, f"min_resource {options['min_resource']} is above max_resource "
                                                    f"{options['max_resource']} (epochs)")
    return Algorithm(name=pruner.name, options=options)


# space

def read_space(value: Value, base: Mapping[str, Scalar], errors: ErrorCollector, place: str = "the space",
               ) -> dict[str, Distribution]:
    """The distribution of each parameter; wrong ones are left out. ``place`` is what messages call the section."""
    if not isinstance(value, Section) or not value.entries:
        errors.add(value.where, "space is a mapping of parameters to choices or ranges, as in "
                                "decoder: [wavelet, attention] or lr: {low: 1e-5, high: 1e-2, log: true}")
        return {}
    space = {}
    for name, entry in value.entries.items():
        where = value.keys[name]
        if name not in RunConfig.model_fields:
            errors.add(where, str(unknown_parameter(name)))
        elif name in NOT_SEARCHED:
            errors.add(where, f"{name} cannot be searched: {NOT_SEARCHED[name]}")
        elif name in base:
            errors.add(where, f"{name} has one value already, at {base[name].where}: a parameter is in base or in "
                              f"{place}")
        elif (distribution := _read_distribution(name, entry, errors)) is not None:
            space[name] = distribution
    return space


def _read_distribution(name: str, value: Value, errors: ErrorCollector) -> Distribution | None:
    if isinstance(value, Items):
        return _read_choices(name, value, errors)
    if isinstance(value, Section) and "choices" in value.entries:
        kind = value.entries.get("type")
        is_categorical = kind is None or (isinstance(kind, Scalar) and kind.text == "categorical")
        if is_categorical and not set(value.entries) - {"type", "choices"}:
            return _read_choices(name, value.entries["choices"], errors)
        errors.add(value.where, f"{name}: choices go with type: categorical and with nothing else")
    elif isinstance(value, Section) and value.entries:
        return _read_range(name, value, errors)
    else:
        errors.add(value.where, f"{name}: expected a list of choices or a range {{low: …, high: …}}; a parameter with "
                                "one value belongs in base")
    return None


def _read_choices(name: str, value: Value, errors: ErrorCollector) -> Choices | None:
    if not isinstance(value, Items) or not value.values:
        errors.add(value.where, f"{name}: choices are a list of one or more values")
        return None
    texts: dict[Any, str] = {}
    items = [each for item in value.values
             for each in (expand_value(name, item, errors) if isinstance(item, Scalar) else [item])]
    for item in items:
        if not isinstance(item, Scalar):
            errors.add(item.where, f"{name}: a choice is a text or a number, not a list or a mapping")
        elif is_valid(name, item, item.where, errors):
            typed = parse_value(name, item.text)
            if typed in texts:
                errors.add(item.where, f"{name}: {item.text} is listed twice")
            texts.setdefault(typed, pinned(name, typed) if name in OUTSIDE else item.text)
    return Choices(choices=tuple(texts.values())) if items and len(texts) == len(items) else None


def _read_range(name: str, section: Section, errors: ErrorCollector) -> FloatRange | IntRange | None:
    annotation = RunConfig.model_fields[name].annotation
    if annotation not in (int, float):
        errors.add(section.where, f"{name} is a text: give a list of choices")
        return None
    settings = read_settings(_RangeSettings, section, f"the range of {name}", errors)
    if settings is None:
        return None
    ends = {"low": settings.low, "high": settings.high}
    valid = [is_valid(name, Scalar(text, section.entries[end].where), section.where, errors)
             for end, text in ends.items()]
    if not all(valid):
        return None
    low, high = (Decimal(str(parse_value(name, text))) for text in ends.values())
    with errors.collect(section.where):
        kind = settings.type or ("int" if annotation is int else "float")
        _check_range(name, kind, annotation, low, high, settings)
        step = settings.step
        if kind == "int":
            return IntRange(low=int(low), high=int(high), log=settings.log, step=None if step is None else int(step))
        return FloatRange(low=float(low), high=float(high), log=settings.log,
                          step=None if step is None else float(step))
    return None


def _check_range(name: str, kind: str, annotation: Any, low: Decimal, high: Decimal, settings: _RangeSettings) -> None:
    if kind not in ("int", "float"):
        raise RequestError(f"{name}: a range is of type float or int, not {kind!r}")
    if kind == "float" and annotation is int:
        raise RequestError(f"{name} is a whole number: its range cannot be of type float")
    missed = f"{name}: steps of {settings.step} from {settings.low} do not end at {settings.high}"
    if settings.step is not None and low < high and not 1 <= (high - low) / settings.step <= MOST:
        raise RequestError(missed)
    if kind == "int" and any(number is not None and number % 1 for number in (low, high, settings.step)):
        raise RequestError(f"{name}: low, high and step of type int are whole numbers")
    if low >= high:
        raise RequestError(f"{name}: low {settings.low} is not below high {settings.high}")
    if settings.log and low <= 0:
        raise RequestError(f"{name}: low of a logarithmic range must be above 0, and is {settings.low}")
    if settings.step is not None and (high - low) % settings.step:
        raise RequestError(missed)


def _check_combinations(where: str, base: Mapping[str, Scalar], space: Mapping[str, Distribution],
                        errors: ErrorCollector) -> None:
    """Checks all combinations of choices and ends of ranges; all pairs, where that would be too many."""
    shared: dict[str, Any] = {name: scalar.text for name, scalar in base.items()}
    ends = {name: distribution.extremes() for name, distribution in space.items()}
    if prod(map(len, ends.values())) <= MAX_COMBINATIONS:
        points = (dict(zip(ends, values, strict=True)) for values in product(*ends.values()))
    else:
        first = {name: values[0] for name, values in ends.items()}
        points = (first | {one: value, other: other_value} for one, other in combinations(ends, 2)
                  for value, other_value in product(ends[one], ends[other]))
    wrong: dict[str, None] = {}
    for point in islice(points, MAX_COMBINATIONS):
        try:
            checked_config(shared | point)
        except RequestError as error:
            wrong[str(error)] = None
    errors.add_similar(where, list(wrong))
