"""The space of a search: which parameters it may vary, and over what."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import combinations, islice, product
from math import prod
from typing import Annotated, Any

from pydantic import Field, model_validator

from inversion.config.run_config import MOST, RunConfig, parse_value
from inversion.errors import RequestError, UnknownNameError
from inversion.sweeps.spec.grid import valid
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.search import Choices, Distribution, FloatRange, IntRange
from inversion.sweeps.spec.sections import Settings, read_settings
from inversion.sweeps.spec.values import checked
from inversion.sweeps.spec.yaml_marks import Items, Scalar, Section, Value

_COMPARABLE = "validation scores of runs that differ in it cannot be compared"
_NO_EFFECT = "it changes no validation score"
NOT_SEARCHED = {
    **dict.fromkeys(("protocol", "data", "image_size", "weights", "lpips_weights", "val_limit"), _COMPARABLE),
    "seed": "the best of several seeds is luck; several seeds are an axis of a grid",
    **dict.fromkeys(("test_limit", "data_dir", "device", "threads", "strict"), _NO_EFFECT),
}
"""Parameters that a search leaves alone, each with the reason."""

MOST_TRIED = 4_096


class _RangeSettings(Settings):
    """What a range may say. ``low`` and ``high`` stay texts: they are checked as values of the parameter."""

    type: str = ""
    low: str
    high: str
    log: bool = False
    step: Annotated[Decimal, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> _RangeSettings:
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self


def read_space(value: Value, base: Mapping[str, Scalar], problems: Problems) -> dict[str, Distribution]:
    """The distribution of each parameter; what is wrong is noted and left out."""
    if not isinstance(value, Section) or not value.entries:
        problems.add(value.where, "space is a mapping of parameters to what they may be, as in "
                                  "decoder: [wavelet, attention] or lr: {low: 1e-5, high: 1e-2, log: true}")
        return {}
    space = {}
    for name, entry in value.entries.items():
        where = value.keys[name]
        if name not in RunConfig.model_fields:
            problems.add(where, str(UnknownNameError("unknown parameter", name, RunConfig.model_fields)))
        elif name in NOT_SEARCHED:
            problems.add(where, f"{name} cannot be searched: {NOT_SEARCHED[name]}")
        elif name in base:
            problems.add(where, f"{name} has one value already, at {base[name].where}: a parameter is in base or in "
                                "the space")
        elif (distribution := _read_distribution(name, entry, problems)) is not None:
            space[name] = distribution
    return space


def _read_distribution(name: str, value: Value, problems: Problems) -> Distribution | None:
    if isinstance(value, Items):
        return _read_choices(name, value, problems)
    if isinstance(value, Section) and "choices" in value.entries:
        return _read_explicit_choices(name, value, problems)
    if isinstance(value, Section) and value.entries:
        return _read_range(name, value, problems)
    problems.add(value.where, f"{name}: a list of choices or a range {{low: …, high: …}} is wanted; a parameter with "
                              "one value belongs in base")
    return None


def _read_explicit_choices(name: str, section: Section, problems: Problems) -> Choices | None:
    kind = section.entries.get("type")
    right_type = kind is None or (isinstance(kind, Scalar) and kind.text == "categorical")
    if not right_type or set(section.entries) - {"type", "choices"}:
        problems.add(section.where, f"{name}: choices go with type: categorical and with nothing else")
        return None
    return _read_choices(name, section.entries["choices"], problems)


def _read_choices(name: str, value: Value, problems: Problems) -> Choices | None:
    if not isinstance(value, Items) or not value.values:
        problems.add(value.where, f"{name}: choices are a list of one value or more")
        return None
    texts: dict[Any, str] = {}
    for item in value.values:
        if not isinstance(item, Scalar):
            problems.add(item.where, f"{name}: a choice is a text or a number, not a list or mapping")
        elif valid(name, item, item.where, problems):
            typed = parse_value(name, item.text)
            if typed in texts:
                problems.add(item.where, f"{name}: {item.text} is there twice")
            texts.setdefault(typed, item.text)
    return Choices(choices=tuple(texts.values())) if len(texts) == len(value.values) else None


def _read_range(name: str, section: Section, problems: Problems) -> FloatRange | IntRange | None:
    annotation = RunConfig.model_fields[name].annotation
    if annotation not in (int, float):
        problems.add(section.where, f"{name} is a text: give a list of choices")
        return None
    settings = read_settings(_RangeSettings, section, f"the range of {name}", problems)
    if settings is None:
        return None
    ends = [valid(name, Scalar(settings.low, section.entries["low"].where), section.where, problems),
            valid(name, Scalar(settings.high, section.entries["high"].where), section.where, problems)]
    if not all(ends):
        return None
    low, high = (Decimal(str(parse_value(name, text))) for text in (settings.low, settings.high))
    with problems.told_at(section.where):
        kind = settings.type or ("int" if annotation is int else "float")
        _check_range(name, kind, annotation, low, high, settings)
        if kind == "int":
            return IntRange(low=int(low), high=int(high), log=settings.log,
                            step=None if settings.step is None else int(settings.step))
        return FloatRange(low=float(low), high=float(high), log=settings.log,
                          step=None if settings.step is None else float(settings.step))
    return None


def _check_range(name: str, kind: str, annotation: Any, low: Decimal, high: Decimal, settings: _RangeSettings) -> None:
    if kind not in ("int", "float"):
        raise RequestError(f"{name}: a range is of type float or int, not {kind!r}")
    if kind == "float" and annotation is int:
        raise RequestError(f"{name} is a whole number: its range cannot be of type float")
    missed = f"{name}: steps of {settings.step} from {settings.low} do not meet {settings.high}"
    if settings.step is not None and low < high and not 1 <= (high - low) / settings.step <= MOST:
        raise RequestError(missed)
    if kind == "int" and any(number is not None and number % 1 for number in (low, high, settings.step)):
        raise RequestError(f"{name}: low, high and step of type int are whole numbers")
    if low >= high:
        raise RequestError(f"{name}: low {settings.low} is not below high {settings.high}")
    if settings.log and low <= 0:
        raise RequestError(f"{name}: a logarithmic range begins above 0, and low is {settings.low}")
    if settings.step is not None and (high - low) % settings.step:
        raise RequestError(missed)


def try_space(where: str, base: Mapping[str, Scalar], space: Mapping[str, Distribution], problems: Problems) -> None:
    """Notes values that do not go together: all combinations of choices and ends of ranges, or if many, all pairs."""
    shared: dict[str, Any] = {name: scalar.text for name, scalar in base.items()}
    ends = {name: distribution.ends() for name, distribution in space.items()}
    if prod(map(len, ends.values())) <= MOST_TRIED:
        points = (dict(zip(ends, values, strict=True)) for values in product(*ends.values()))
    else:
        first = {name: values[0] for name, values in ends.items()}
        points = (first | {one: value, other: other_value} for one, other in combinations(ends, 2)
                  for value, other_value in product(ends[one], ends[other]))
    wrong: dict[str, None] = {}
    for point in islice(points, MOST_TRIED):
        try:
            checked(shared | point)
        except RequestError as error:
            wrong[str(error)] = None
    problems.add_alike(where, list(wrong))
