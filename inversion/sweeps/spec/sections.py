"""Reads sections of a spec: only known names, only texts where texts belong, typed by a pydantic model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from inversion.errors import UnknownNameError
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.yaml_marks import Scalar, Section, Value

M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """A section whose values are read from texts; derive from it, a field for each name that the section may hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


def check_names(section: Section, known: Iterable[str], what: str, problems: Problems) -> None:
    """Notes every name of the section that is not known, with the nearest."""
    names = list(known)
    for name in section.entries:
        if name not in names:
            problems.add(section.keys[name], str(UnknownNameError(what, name, names)))


def read_text(name: str, value: Value, problems: Problems) -> Scalar | None:
    """The value as a text that is not empty; None, and a problem noted, if it is something else."""
    if isinstance(value, Scalar) and value.text.strip():
        return value
    kind = "nothing stands there" if isinstance(value, Scalar) else "a list or a mapping stands there"
    problems.add(value.where, f"{name}: one value is wanted, and {kind}")
    return None


def read_settings(model: type[M], section: Section, what: str, problems: Problems) -> M | None:
    """The section as ``model``, or None if its values are wrong. ``what`` has them, such as ``sampler tpe``."""
    check_names(section, model.model_fields, f"{what} has no option", problems)
    texts = {name: read_text(name, value, problems) for name, value in section.entries.items()}
    given = {name: scalar.text for name, scalar in texts.items() if scalar and name in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        for detail in error.errors():
            name, message = "".join(map(str, detail["loc"][:1])), detail["msg"].removeprefix("Value error, ")
            if name in given:
                problems.add(section.entries[name].where, f"{name}: {given[name]!r} is not allowed. {message}.")
            elif not name:
                problems.add(section.where, f"{what}: {message}")
            elif name not in section.entries:
                problems.add(section.where, f"{what} needs {name}")
    return None
