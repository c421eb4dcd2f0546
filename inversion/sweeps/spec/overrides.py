"""The options ``--set`` and ``--where``, which change a spec for one command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from inversion.config.run_config import RunConfig, unknown_parameter
from inversion.errors import RequestError
from inversion.sweeps.spec.conditions import Condition
from inversion.sweeps.spec.grid import Block, Configuration, check_value, expand_value, is_valid
from inversion.sweeps.spec.source import ErrorCollector, Items, Scalar, read_yaml


@dataclass(frozen=True)
class Override:
    """A ``--set`` or ``--where`` of the command line; ``is_axis`` if its value is a list or a range of layers."""

    name: str
    values: tuple[Scalar, ...]
    is_axis: bool
    where: str


def read_sets(texts: Sequence[str], errors: ErrorCollector) -> list[Override]:
    """The values of ``--set``; wrong ones are left out."""
    sets: dict[str, Override] = {}
    for text in texts:
        where = f"--set {text}"
        if (assignment := _split(where, "--set", text, errors)) is None:
            continue
        name, value = assignment
        is_list = value.startswith("[")
        listed = _read_list(value, where, errors) if is_list else (Scalar(value, where),)
        if name == "metrics" and is_list:  # several metrics of every run, and no axis
            listed, is_list = (Scalar(",".join(scalar.text for scalar in listed), where),) if listed else (), False
        if name in sets:
            errors.add(where, f"{name} is set twice; several values are written as {name}=[A, B]")
            continue
        values = tuple(each for scalar in listed for each in expand_value(name, scalar, errors))
        valid = [is_valid(name, each, where, errors) for each in values]
        if valid and all(valid):
            sets[name] = Override(name, values, is_list or len(values) > 1, where)
    return list(sets.values())


def _read_list(value: str, where: str, errors: ErrorCollector) -> tuple[Scalar, ...]:
    try:
        items = read_yaml(value, lambda line: where, ErrorCollector())
    except RequestError:
        items = None
    values = items.values if isinstance(items, Items) else ()
    scalars = tuple(item for item in values if isinstance(item, Scalar))
    if scalars and len(scalars) == len(values):
        return scalars
    errors.add(where, "an axis is a list of values, as in seed=[0, 1, 2]")
    return ()


def set_in_base(base: Mapping[str, Scalar], sets: Sequence[Override]) -> dict[str, Scalar]:
    """The base with the new single values; a parameter that became an axis is removed."""
    axes = {override.name for override in sets if override.is_axis}
    changed = {**base, **{override.name: override.values[0] for override in sets}}
    return {name: scalar for name, scalar in changed.items() if name not in axes}


def check_sets(blocks: Sequence[Block], sets: Sequence[Override], errors: ErrorCollector) -> list[Override]:
    """The overrides that can be applied: not those of a parameter of which a block has several values."""
    applicable = []
    for override in sets:
        if axes := [block.where for block in blocks if len(block.axes.get(override.name, ())) > 1]:
            part = " ".join(f"--where {override.name}={value.text}" for value in override.values)
            errors.add(override.where, f"{override.name} has several values in {' and '.join(axes)}. "
                                       f"To run some of them: {part}")
        else:
            applicable.append(override)
    return applicable


def set_in_blocks(blocks: Sequence[Block], sets: Sequence[Override]) -> list[Block]:
    """The blocks with the overrides: a value replaces a block's single value, an axis is added to every block."""
    changed = list(blocks)
    for override in sets:
        changed = [replace(block, axes={**block.axes, override.name: override.values})
                   if override.is_axis or override.name in block.axes else block for block in changed]
    return changed


def read_wheres(texts: Sequence[str], errors: ErrorCollector) -> list[Override]:
    """The values of ``--where``; those not of the form ``name=value``, or with an unknown name, are left out."""
    wheres = []
    for text in texts:
        where = f"--where {text}"
        if assignment := _split(where, "--where", text, errors):
            wheres.append(Override(assignment[0], (Scalar(assignment[1], where),), False, where))
    return wheres


def select(configurations: Sequence[Configuration], wheres: Sequence[Override], errors: ErrorCollector
           ) -> list[Configuration]:
    """The runs that have, of each parameter given, one of the values given."""
    values = {name: tuple(where.values[0] for where in wheres if where.name == name)
              for name in dict.fromkeys(where.name for where in wheres)}
    condition = Condition(values, " ".join(where.where for where in wheres))
    kept = condition.matching([each.config for each in configurations], errors)
    return [each for index, each in enumerate(configurations) if index in kept]


def _split(where: str, option: str, text: str, errors: ErrorCollector) -> tuple[str, str] | None:
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name:
        errors.add(where, f"not of the form name=value (as in {option} seed=1)")
    elif name not in RunConfig.model_fields:
        errors.add(where, str(unknown_parameter(name)))
    elif not value:
        with errors.collect(where):
            check_value(name, value)
    else:
        return name, value
    return None
