"""``--set name=value`` changes a spec for one sweep, ``--where name=value`` keeps a part of its grid."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inversion.config.run_config import RunConfig
from inversion.errors import RequestError, UnknownNameError
from inversion.sweeps.spec.grid import Block, Configuration, valid
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.values import check_value, chooses, values_of
from inversion.sweeps.spec.yaml_marks import Items, Scalar, read_yaml

MOST_LISTED = 20


@dataclass(frozen=True)
class Setting:
    """A parameter that ``--set`` gave one value, or with ``is_axis`` a list of them."""

    name: str
    values: tuple[Scalar, ...]
    is_axis: bool
    where: str


def read_settings(texts: Sequence[str], problems: Problems) -> list[Setting]:
    """The values of ``--set``; wrong ones are noted and left out."""
    settings: dict[str, Setting] = {}
    for text in texts:
        assignment = _split("--set", text, problems)
        if assignment is None:
            continue
        name, value = assignment
        where = f"--set {text}"
        values = _listed(value, where, problems) if value.startswith("[") else (Scalar(value, where),)
        if name in settings:
            problems.add(where, f"{name} is set twice; several values are written as {name}=[A, B]")
            continue
        right = [each for each in values if valid(name, each, where, problems)]
        if right and len(right) == len(values):
            settings[name] = Setting(name, values, value.startswith("["), where)
    return list(settings.values())


def _listed(value: str, where: str, problems: Problems) -> tuple[Scalar, ...]:
    try:
        items = read_yaml(value, lambda line: where, Problems())
    except RequestError:
        items = None
    values = items.values if isinstance(items, Items) else ()
    scalars = tuple(item for item in values if isinstance(item, Scalar))
    if scalars and len(scalars) == len(values):
        return scalars
    problems.add(where, "an axis is a list of values, as in seed=[0, 1, 2]")
    return ()


def set_in_base(base: Mapping[str, Scalar], settings: Sequence[Setting]) -> dict[str, Scalar]:
    """The base with the settings of one value; a parameter that became an axis is taken out."""
    changed = dict(base) | {setting.name: setting.values[0] for setting in settings}
    return {name: scalar for name, scalar in changed.items()
            if not any(setting.name == name and setting.is_axis for setting in settings)}


def clear_settings(blocks: Sequence[Block], settings: Sequence[Setting], problems: Problems) -> list[Setting]:
    """The settings that can be made: not those of a parameter of which a block has several values."""
    clear = []
    for setting in settings:
        if axes := [block.where for block in blocks if len(block.axes.get(setting.name, ())) > 1]:
            part = " ".join(f"--where {setting.name}={value.text}" for value in setting.values)
            problems.add(setting.where, f"several values of {setting.name} stand in {' and '.join(axes)}. "
                                        f"To run a part of them: {part}")
        else:
            clear.append(setting)
    return clear


def set_in_blocks(blocks: Sequence[Block], settings: Sequence[Setting]) -> list[Block]:
    """The blocks with clear settings: a value replaces a block's value, an axis is added to every block."""
    changed = list(blocks)
    for setting in settings:
        changed = [replace(block, axes={**block.axes, setting.name: setting.values})
                   if setting.is_axis or setting.name in block.axes else block for block in changed]
    return changed


@dataclass(frozen=True)
class Choice:
    """A value that ``--where`` keeps."""

    name: str
    value: str
    where: str


def read_choices(texts: Sequence[str], problems: Problems) -> list[Choice]:
    """The values of ``--where``; what is not of the form ``name=value`` or has an unknown name is noted."""
    choices = []
    for text in texts:
        if assignment := _split("--where", text, problems):
            choices.append(Choice(*assignment, f"--where {text}"))
    return choices


def keep(configurations: Sequence[Configuration], choices: Sequence[Choice], problems: Problems) -> list[Configuration]:
    """The runs that have, for each name, one of the values that were chosen of it."""
    configs = [each.config for each in configurations]
    kept = set(range(len(configs)))
    for name in dict.fromkeys(choice.name for choice in choices):
        kept &= set().union(*(_matching(choice, configs, problems) for choice in choices if choice.name == name))
    if not kept and choices and not problems.lines:
        problems.add(" ".join(choice.where for choice in choices), "no run has all of these")
    return [each for index, each in enumerate(configurations) if index in kept]


def _matching(choice: Choice, configs: Sequence[RunConfig], problems: Problems) -> set[int]:
    try:
        test = chooses(choice.name, choice.value)
        found = {index for index, config in enumerate(configs) if test(config)}
    except RequestError:  # a value that no run can have is told like one that none of these has
        found = set()
    if not found:
        problems.add(choice.where, _nearest(choice, values_of(choice.name, configs)))
    return found


def _nearest(choice: Choice, there: list[str]) -> str:
    message = f"no run has {choice.name}={choice.value}. The spec has: {', '.join(there[:MOST_LISTED])}"
    message += ", …." if len(there) > MOST_LISTED else "."
    nearest = difflib.get_close_matches(choice.value, there, n=1)
    return f"{message} Did you mean {nearest[0]!r}?" if nearest else message


def _split(option: str, text: str, problems: Problems) -> tuple[str, str] | None:
    name, separator, value = (part.strip() for part in text.partition("="))
    where = f"{option} {text}"
    if not separator or not name:
        problems.add(where, f"not of the form name=value (as in {option} seed=1)")
    elif name not in RunConfig.model_fields:
        problems.add(where, str(UnknownNameError("unknown parameter", name, RunConfig.model_fields)))
    elif not value:
        with problems.told_at(where):
            check_value(name, value)
    else:
        return name, value
    return None
