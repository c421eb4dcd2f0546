"""The grid of a spec: a base, blocks of axes, and the run of every combination."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any

from inversion.config.parts import pinned
from inversion.config.resolve import check, run_name
from inversion.config.run_config import RunConfig, format_options, parse_config, parse_options, parse_value
from inversion.errors import RequestError
from inversion.models.decoders import decoders
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.catalog import ENSEMBLE, expand_layers, parse_encoders
from inversion.models.fusion import fusions
from inversion.sweeps.spec.source import ErrorCollector, Items, Scalar, Section, Value

MAX_RUNS = 10_000
PRIORITY, MOST_PRIORITY = "priority", 1_000_000
"""The key of a block that is no parameter, and the limit of its value."""

METRICS_IN_BASE = "metrics belongs in base: all runs of a study have the same metrics"

ENSEMBLE_NAME = "+".join(map(str, ENSEMBLE))


@dataclass(frozen=True)
class Block:
    """A cartesian product with an axis of one or more values per parameter. ``where`` is ``grid.yaml:5, block 1``.

    Runs of a higher ``priority`` are done first.
    """

    where: str
    axes: Mapping[str, tuple[Scalar, ...]]
    priority: int = 0

    def __len__(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def points(self) -> Iterator[dict[str, Scalar]]:
        """The product; the last axis changes fastest."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


@dataclass(frozen=True)
class Configuration:
    """A run of a grid, with full names (``vgg16:block1``), the position of its block, and its values of the axes.

    ``problem`` says why no run can have these values; the names in ``config`` are then full as far as possible.
    """

    config: RunConfig
    where: str
    axis_values: Mapping[str, Scalar]
    priority: int = 0
    problem: str = ""


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
        check_value(name, scalar.text)
    except RequestError as error:
        errors.add(scalar.where if name in RunConfig.model_fields else key_where, str(error))
        return False
    return True


def check_value(name: str, text: str) -> None:
    """Raises a RequestError if no run can have this value of a parameter."""
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
    elif name in ("metrics", "loss"):
        pinned(name, value)
    elif name in ("decoder_options", "fusion_options"):
        parse_options(value, name)


def read_base(value: Value | None, errors: ErrorCollector) -> dict[str, Scalar]:
    """The parameters that all runs share; wrong ones are left out."""
    if value is None or value == Scalar("", value.where):
        return {}
    if not isinstance(value, Section):
        errors.add(value.where, "base is a mapping of parameters to values, as in base: {data: div2k}")
        return {}
    base = {}
    for name, entry in value.entries.items():
        if name == "metrics" and isinstance(entry, Items):
            entry = _joined(entry)
        if not isinstance(entry, Scalar):
            errors.add(value.keys[name], f"{name}: base has one value for each parameter. A list is an axis, and "
                                         "belongs in a block of grid (or in the space of a search).")
        elif is_valid(name, entry, value.keys[name], errors):
            base[name] = entry
    return base


def _joined(items: Items) -> Value:
    """A list of several metrics, which all runs have, as the value of the parameter; as it is if it is malformed."""
    texts = [item.text for item in items.values if isinstance(item, Scalar)]
    return Scalar(",".join(texts), items.where) if texts and len(texts) == len(items.values) else items


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
        if "metrics" in item.entries:
            errors.add(item.keys["metrics"] + f", block {number}", METRICS_IN_BASE)
        axes = {name: _read_axis(name, item, number, errors) for name in item.entries
                if name not in (PRIORITY, "metrics")}
        blocks.append(Block(where, axes, _read_priority(item, number, errors)))
    return blocks


def _read_priority(section: Section, number: int, errors: ErrorCollector) -> int:
    value = section.entries.get(PRIORITY, Scalar("0", section.where))
    text = value.text.strip() if isinstance(value, Scalar) else ""
    if not re.fullmatch(r"[+-]?\d{1,7}", text) or abs(int(text)) > MOST_PRIORITY:
        errors.add(f"{value.where}, block {number}", "priority: a whole number, such as 1; higher ones are done first, "
                                                     "and the default is 0")
        return 0
    return int(text)


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
        axis += [scalar for scalar in expand_value(name, Scalar(item.text, item.where + suffix), errors)
                 if is_valid(name, scalar, section.keys[name] + suffix, errors)]
    return tuple(axis)


def expand_value(name: str, scalar: Scalar, errors: ErrorCollector) -> list[Scalar]:
    """The values that one stands for: the layers of a range (``vgg16:block1..5``), else the value alone."""
    if name != "encoder":
        return [scalar]
    with errors.collect(scalar.where):
        return [Scalar(text, scalar.where) for text in expand_layers(scalar.text)]
    return []


def expand(where: str, base: Mapping[str, Scalar], blocks: Sequence[Block], errors: ErrorCollector
           ) -> list[Configuration]:
    """Every combination of the blocks in their order, also those that no run can have. ``where`` is the position of the
    grid.
    """
    count = sum(map(len, blocks))
    if count > MAX_RUNS:
        errors.add(where, f"the grid has {count:,} runs; at most {MAX_RUNS:,} are allowed")
        return []
    shared = {name: scalar.text for name, scalar in base.items()}
    configurations = []
    for block in blocks:
        for values in block.points():
            texts = shared | {name: scalar.text for name, scalar in values.items()}
            try:
                config, problem = checked_config(texts), ""
            except RequestError as error:
                config, problem = _as_far_as_valid(texts), str(error)
            configurations.append(Configuration(config, block.where, values, block.priority, problem))
    return configurations


def _as_far_as_valid(values: Mapping[str, str]) -> RunConfig:
    """The configuration of a combination that no run can have, as a condition may name it."""
    config = RunConfig.model_validate(values)
    encoder = config.encoder
    if config.layer != "auto" and "+" not in encoder and split_request(encoder).layer is None:
        encoder = f"{encoder}:{config.layer}"
    with suppress(RequestError):
        encoder = "+".join(map(str, parse_encoders(encoder)))
    options = {name: format_options(parse_options(getattr(config, name), name))
               for name in ("decoder_options", "fusion_options")}
    return config.model_copy(update={"encoder": encoder, **options})


def require_valid(configurations: Sequence[Configuration], errors: ErrorCollector) -> None:
    """Adds errors for combinations that no run can have, and for two that are the same run."""
    wrong: dict[str, dict[str, None]] = {}
    for each in configurations:
        if each.problem:
            wrong.setdefault(each.problem, {})[each.where] = None
    by_first: dict[str, list[str]] = {}  # each message once, at its first block
    for message, (first, *others) in wrong.items():
        by_first.setdefault(first, []).append(message + (f" (also in {' and '.join(others)})" if others else ""))
    for position, messages in by_first.items():
        errors.add_similar(position, messages)
    _check_duplicates([each for each in configurations if not each.problem], errors)


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
