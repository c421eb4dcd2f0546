"""The grid of a spec: blocks of axes, and every run that they ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from inversion.config.resolve import run_name
from inversion.config.run_config import RunConfig
from inversion.errors import RequestError
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.values import check_value, checked, run_identity
from inversion.sweeps.spec.yaml_marks import Items, Scalar, Section, Value

MOST_RUNS = 10_000


@dataclass(frozen=True, eq=False)
class Block:
    """A cartesian product: an axis of one value or more for each parameter. ``where`` is ``grid.yaml:5, block 1``."""

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
    """A run that a grid asks for, under full names, and where in the file it is asked for."""

    config: RunConfig
    where: str


@dataclass(frozen=True)
class _Point:
    config: RunConfig
    block: Block
    scalars: Mapping[str, Scalar]


def read_base(value: Value | None, problems: Problems) -> dict[str, Scalar]:
    """The parameters that all runs share; wrong ones are noted and left out."""
    if value is None or value == Scalar("", value.where):
        return {}
    if not isinstance(value, Section):
        problems.add(value.where, "base is a mapping of parameters to values, as in base: {data: div2k}")
        return {}
    base = {}
    for name, entry in value.entries.items():
        if isinstance(entry, Scalar):
            if valid(name, entry, value.keys[name], problems):
                base[name] = entry
        else:
            problems.add(value.keys[name], f"{name}: base has one value for each parameter. A list is an axis, and "
                                           "belongs in a block of grid (or in the space of a search).")
    return base


def read_blocks(value: Value, problems: Problems) -> list[Block]:
    """The blocks under ``grid``; wrong values are noted and left out."""
    if not isinstance(value, Items) or not value.values:
        problems.add(value.where, "grid is a list of one block or more, each a mapping of parameters to lists")
        return []
    blocks = []
    for number, item in enumerate(value.values, start=1):
        where = f"{item.where}, block {number}"
        if not isinstance(item, Section) or not item.entries:
            empty = isinstance(item, Section) or item == Scalar("", item.where)
            problems.add(where, "an empty block" if empty else "a block is a mapping of parameters to values")
            continue
        blocks.append(Block(where, {name: _axis(name, item, number, problems) for name in item.entries}))
    return blocks


def _axis(name: str, section: Section, number: int, problems: Problems) -> tuple[Scalar, ...]:
    value, suffix = section.entries[name], f", block {number}"
    if isinstance(value, Items) and not value.values:
        problems.add(value.where + suffix, f"{name}: an empty list; leave it out or give it values")
    values = value.values if isinstance(value, Items) else (value,)
    axis = []
    for item in values:
        if not isinstance(item, Scalar):
            problems.add(item.where + suffix,
                         f"{name}: a value of an axis is a text or a number, not a list or a mapping")
        elif valid(name, item, section.keys[name] + suffix, problems, suffix):
            axis.append(Scalar(item.text, item.where + suffix))
    return tuple(axis)


def valid(name: str, scalar: Scalar, key_where: str, problems: Problems, suffix: str = "") -> bool:
    """Whether a parameter's value is right on its own; if not, it is noted where the value stands."""
    known = name in RunConfig.model_fields
    try:
        check_value(name, scalar.text)
    except RequestError as error:
        problems.add(scalar.where + suffix if known else key_where, str(error))
        return False
    return True


def expand(where: str, base: Mapping[str, Scalar], blocks: Sequence[Block], problems: Problems) -> list[Configuration]:
    """Every run of the blocks in their order, each checked as a whole; ``where`` the grid stands."""
    count = sum(map(len, blocks))
    if count > MOST_RUNS:
        problems.add(where, f"the grid has {count:,} runs, and a spec may have {MOST_RUNS:,}")
        return []
    points = _checked_points(base, blocks, problems)
    _note_duplicates(points, problems)
    return [Configuration(point.config, point.block.where) for point in points]


def _checked_points(base: Mapping[str, Scalar], blocks: Sequence[Block], problems: Problems) -> list[_Point]:
    shared = {name: scalar.text for name, scalar in base.items()}
    points = []
    wrong: dict[str, list[Block]] = {}
    for block in blocks:
        for scalars in block.points():
            try:
                config = checked(shared | {name: scalar.text for name, scalar in scalars.items()})
                points.append(_Point(config, block, scalars))
            except RequestError as error:
                found = wrong.setdefault(str(error), [])
                if block not in found:
                    found.append(block)
    _note_wrong(wrong, problems)
    return points


def _note_wrong(wrong: Mapping[str, list[Block]], problems: Problems) -> None:
    """Each message once, at its first block."""
    by_first: dict[str, list[str]] = {}
    for message, (first, *others) in wrong.items():
        also = f" (the same in {' and '.join(block.where for block in others)})" if others else ""
        by_first.setdefault(first.where, []).append(message + also)
    for where, messages in by_first.items():
        problems.add_alike(where, messages)


def _note_duplicates(points: Sequence[_Point], problems: Problems) -> None:
    first: dict[object, _Point] = {}
    told: set[int] = set()
    across: dict[tuple[str, str], list[str]] = {}
    for point in points:
        other = first.setdefault(run_identity(point.config), point)
        if other is point:
            continue
        if other.block is not point.block:
            across.setdefault((point.block.where, other.block.where), []).append(run_name(point.config, []))
            continue
        # An axis with two equal values makes many equal runs; they differ in another axis too if that has some as well.
        changed = {name: scalar for name, scalar in point.scalars.items() if scalar is not other.scalars[name]}
        if not any(id(scalar) in told for scalar in changed.values()):
            told.update(map(id, changed.values()))
            _note_twice(changed, {name: other.scalars[name] for name in changed}, problems)
    for (where, other_where), runs in across.items():
        what = f"{runs[0]} is" if len(runs) == 1 else f"{len(runs)} runs ({runs[0]}, …) are"
        problems.add(where, f"{what} in the grid already, at {other_where}")


def _note_twice(here: Mapping[str, Scalar], there: Mapping[str, Scalar], problems: Problems) -> None:
    text, other = (", ".join(f"{name}={scalar.text}" for name, scalar in side.items()) for side in (here, there))
    where, other_where = (list(side.values())[-1].where for side in (here, there))
    problems.add(where, f"{text} gives the same run as {other} ({other_where})")
