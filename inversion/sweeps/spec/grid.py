"""The grid of a spec: blocks of axes and every run that they ask for, with the options ``--set`` and ``--where``."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from inversion.config.resolve import check, run_name
from inversion.config.run_config import RunConfig, parse_config, parse_options, parse_value
from inversion.errors import RequestError, UnknownNameError
from inversion.models.decoders import decoders
from inversion.models.encoders.catalog import ENSEMBLE, encoder_spec, parse_encoders
from inversion.models.fusion import fusions
from inversion.sweeps.spec.source import ErrorCollector, Items, Scalar, Section, Value, read_yaml

MAX_RUNS = 10_000
MAX_LISTED = 20
"""Values that a message about ``--where`` lists."""

ENSEMBLE_NAME = "+".join(map(str, ENSEMBLE))


@dataclass(frozen=True)
class Block:
    """A cartesian product with an axis of one or more values per parameter. ``where`` is ``grid.yaml:5, block 1``."""

    where: str
    axes: Mapping[str, tuple[Scalar, ...]]

    def __len__(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def points(self) -> Iterator[dict[str, Scalar]]:
        """The product; the last axis changes fastest."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


@dataclass(frozen=True)
class Configuration:
    """A run of a grid, with full names (``vgg16:block1``), the position of its block, and its values of the axes."""

    config: RunConfig
    where: str
    axis_values: Mapping[str, Scalar]


@dataclass(frozen=True)
class Override:
    """A ``--set`` or ``--where`` of the command line; ``is_axis`` if its value is a list."""

    name: str
    values: tuple[Scalar, ...]
    is_axis: bool
    where: str


# single values

def checked_config(values: Mapping[str, Any]) -> RunConfig:
    """The configuration with these parameters and full names; raises RequestError."""
    return check(parse_config(values))


def format_value(config: RunConfig, name: str) -> str:
    """A parameter of a checked configuration as short text; the published study's ensemble is ``ensemble``."""
    value = getattr(config, name)
    if name == "encoder" and value == ENSEMBLE_NAME:
        return "ensemble"
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_valid(name: str, scalar: Scalar, key_where: str, errors: ErrorCollector) -> bool:
    """Whether some run could have this value of a parameter; adds an error if not.

    The position of the error is that of the value, or ``key_where`` if there is no such parameter.
    """
    try:
        _check_value(name, scalar.text)
    except RequestError as error:
        errors.add(scalar.where if name in RunConfig.model_fields else key_where, str(error))
        return False
    return True


def _check_value(name: str, text: str) -> None:
    if not text.strip():
        has_auto = name in RunConfig.model_fields and RunConfig.model_fields[name].default == "auto"
        raise RequestError(f"{name} has no value: leave it out{', or write auto' if has_auto else ''}")
    value = parse_value(name, text)
    if name == "encoder":
        parse_encoders(value)
    elif name == "decoder":
        decoders.check(value)
    elif name == "fusion" and value not in ("auto", "none"):
        fusions.check(value)
    elif name == "decoder_options":
        parse_options(value)


# base and blocks

def read_base(value: Value | None, errors: ErrorCollector) -> dict[str, Scalar]:
    """The parameters that all runs share; wrong ones are left out."""
    if value is None or value == Scalar("", value.where):
        return {}
    if not isinstance(value, Section):
        errors.add(value.where, "base is a mapping of parameters to values, as in base: {data: div2k}")
        return {}
    base = {}
    for name, entry in value.entries.items():
        if not isinstance(entry, Scalar):
            errors.add(value.keys[name], f"{name}: base has one value for each parameter. A list is an axis, and "
                                         "belongs in a block of grid (or in the space of a search).")
        elif is_valid(name, entry, value.keys[name], errors):
            base[name] = entry
    return base


def read_blocks(value: Value, errors: ErrorCollector) -> list[Block]:
    """The blocks under ``grid``; wrong values are left out."""
    if not isinstance(value, Items) or not value.values:
        errors.add(value.where, "grid is a list of one or more blocks, each a mapping of parameters to lists")
        return []
    blocks = []
    for number, item in enumerate(value.values, start=1):
        where = f"{item.where}, block {number}"
        if not isinstance(item, Section) or not item.entries:
            is_empty = isinstance(item, Section) or item == Scalar("", item.where)
            errors.add(where, "an empty block" if is_empty else "a block is a mapping of parameters to values")
            continue
        blocks.append(Block(where, {name: _read_axis(name, item, number, errors) for name in item.entries}))
    return blocks


def _read_axis(name: str, section: Section, number: int, errors: ErrorCollector) -> tuple[Scalar, ...]:
    value, suffix = section.entries[name], f", block {number}"
    if isinstance(value, Items) and not value.values:
        errors.add(value.where + suffix, f"{name}: an empty list; leave it out or give it values")
    axis = []
    for item in value.values if isinstance(value, Items) else (value,):
        if not isinstance(item, Scalar):
            errors.add(item.where + suffix,
                       f"{name}: a value of an axis is a text or a number, not a list or a mapping")
            continue
        scalar = Scalar(item.text, item.where + suffix)
        if is_valid(name, scalar, section.keys[name] + suffix, errors):
            axis.append(scalar)
    return tuple(axis)


# expansion

def expand(where: str, base: Mapping[str, Scalar], blocks: Sequence[Block], errors: ErrorCollector
           ) -> list[Configuration]:
    """Every run of the blocks in their order, each checked as a whole. ``where`` is the position of the grid."""
    count = sum(map(len, blocks))
    if count > MAX_RUNS:
        errors.add(where, f"the grid has {count:,} runs; at most {MAX_RUNS:,} are allowed")
        return []
    shared = {name: scalar.text for name, scalar in base.items()}
    configurations = []
    wrong: dict[str, dict[str, None]] = {}
    for block in blocks:
        for values in block.points():
            try:
                config = checked_config(shared | {name: scalar.text for name, scalar in values.items()})
                configurations.append(Configuration(config, block.where, values))
            except RequestError as error:
                wrong.setdefault(str(error), {})[block.where] = None
    by_first: dict[str, list[str]] = {}  # each message once, at its first block
    for message, (first, *others) in wrong.items():
        by_first.setdefault(first, []).append(message + (f" (also in {' and '.join(others)})" if others else ""))
    for position, messages in by_first.items():
        errors.add_similar(position, messages)
    _check_duplicates(configurations, errors)
    return configurations


def _check_duplicates(configurations: Sequence[Configuration], errors: ErrorCollector) -> None:
    first: dict[object, Configuration] = {}
    reported: set[int] = set()
    across: dict[tuple[str, str], list[str]] = {}
    for this in configurations:
        other = first.setdefault(_run_identity(this.config), this)
        if other is this:
            continue
        if other.where != this.where:  # of another block
            across.setdefault((this.where, other.where), []).append(run_name(this.config, []))
            continue
        # Two equal values of an axis make many equal runs; they also differ in another axis if that has equal values.
        changed = {name: scalar for name, scalar in this.axis_values.items() if scalar is not other.axis_values[name]}
        if reported.isdisjoint(map(id, changed.values())):
            reported.update(map(id, changed.values()))
            here, there = (", ".join(f"{name}={each.axis_values[name].text}" for name in changed)
                           for each in (this, other))
            last = list(changed)[-1]
            errors.add(changed[last].where, f"{here} gives the same run as {there} ({other.axis_values[last].where})")
    for (where, other_where), runs in across.items():
        what = f"{runs[0]} is" if len(runs) == 1 else f"{len(runs)} runs ({runs[0]}, …) are"
        errors.add(where, f"{what} in the grid already, at {other_where}")


def _run_identity(config: RunConfig) -> tuple[Any, ...]:
    """Equal for two checked configurations that ask for the same run.

    Threads, strictness and the number of the GPU change no result, and without LPIPS its weight has no effect.
    """
    values = config.model_dump(exclude={"threads", "strict"})
    values["device"] = config.device.partition(":")[0]
    if config.lpips_weights == "off":
        values["lpips_weight"] = 0.0
    return tuple(values.values())


# --set

def read_sets(texts: Sequence[str], errors: ErrorCollector) -> list[Override]:
    """The values of ``--set``; wrong ones are left out."""
    sets: dict[str, Override] = {}
    for text in texts:
        where = f"--set {text}"
        if (assignment := _split(where, "--set", text, errors)) is None:
            continue
        name, value = assignment
        is_axis = value.startswith("[")
        values = _read_list(value, where, errors) if is_axis else (Scalar(value, where),)
        if name in sets:
            errors.add(where, f"{name} is set twice; several values are written as {name}=[A, B]")
            continue
        valid = [is_valid(name, each, where, errors) for each in values]
        if valid and all(valid):
            sets[name] = Override(name, values, is_axis, where)
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


# --where

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
    configs = [each.config for each in configurations]
    kept = set(range(len(configs)))
    for name in dict.fromkeys(where.name for where in wheres):
        kept &= set().union(*(_matching(where, configs, errors) for where in wheres if where.name == name))
    if not kept and wheres and not errors.lines:
        errors.add(" ".join(where.where for where in wheres), "no run has all of these")
    return [each for index, each in enumerate(configurations) if index in kept]


def matcher(name: str, text: str) -> Callable[[RunConfig], bool]:
    """Whether a checked configuration has this value of a parameter; an encoder without layer stands for all layers.

    Raises:
        RequestError: no run can have such a value.
    """
    value = parse_value(name, text)
    if name == "encoder":
        if value != "ensemble" and not set(value) & set(":+"):
            encoder = encoder_spec(value).name
            return lambda config: config.encoder.startswith(f"{encoder}:") and "+" not in config.encoder
        value = "+".join(map(str, parse_encoders(value)))
    elif name == "decoder_options":
        value = ",".join(f"{option}={given}" for option, given in sorted(parse_options(value).items())) or "auto"
    return lambda config: bool(getattr(config, name) == value)


def _matching(where: Override, configs: Sequence[RunConfig], errors: ErrorCollector) -> set[int]:
    text = where.values[0].text
    try:
        matches = matcher(where.name, text)
        found = {index for index, config in enumerate(configs) if matches(config)}
    except RequestError:  # no run can have this value: the message is the one for a value that none has here
        found = set()
    if not found:
        known = _values_in(where.name, configs)
        nearest = difflib.get_close_matches(text, known, n=1)
        errors.add(where.where, f"no run has {where.name}={text}. The spec has: {', '.join(known[:MAX_LISTED])}"
                                f"{', …' if len(known) > MAX_LISTED else ''}."
                                f"{f' Did you mean {nearest[0]!r}?' if nearest else ''}")
    return found


def _values_in(name: str, configs: Sequence[RunConfig]) -> list[str]:
    """The values of a parameter that ``--where`` can select, in the order of the runs."""
    found: dict[str, None] = {}
    for config in configs:
        text = format_value(config, name)
        if name == "encoder" and "+" not in config.encoder:
            found[text.partition(":")[0]] = None
        found[text] = None
    return list(found)


def _split(where: str, option: str, text: str, errors: ErrorCollector) -> tuple[str, str] | None:
    name, separator, value = (part.strip() for part in text.partition("="))
    if not separator or not name:
        errors.add(where, f"not of the form name=value (as in {option} seed=1)")
    elif name not in RunConfig.model_fields:
        errors.add(where, str(UnknownNameError("unknown parameter", name, RunConfig.model_fields)))
    elif not value:
        with errors.collect(where):
            _check_value(name, value)
    else:
        return name, value
    return None
