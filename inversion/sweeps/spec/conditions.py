"""Conditions on the parameters of runs, which select them: ``--where``, and ``exclude`` of a spec."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from inversion.config.parts import OUTSIDE, pinned
from inversion.config.run_config import RunConfig, format_options, parse_options, parse_value, unknown_parameter
from inversion.errors import RequestError
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.catalog import encoder_spec, expand_layers, parse_encoders
from inversion.sweeps.spec.grid import Configuration, check_value, format_value
from inversion.sweeps.spec.source import ErrorCollector, Items, Scalar, Section, Value

MAX_LISTED = 20
"""Values that a message lists."""


@dataclass(frozen=True)
class Condition:
    """Holds for a run that has, of each name, one of the values. ``where`` is its position."""

    values: Mapping[str, tuple[Scalar, ...]]
    where: str

    def matching(self, configs: Sequence[RunConfig], errors: ErrorCollector) -> set[int]:
        """The positions of the runs for which it holds.

        A value that no run has is an error, with those that there are, and so is a condition that holds for none.
        """
        before = len(errors.lines)
        found = set(range(len(configs)))
        for name, scalars in self.values.items():
            found &= set().union(*(_having(name, scalar, configs, errors) for scalar in scalars))
        if not found and self.values and len(errors.lines) == before:
            errors.add(self.where, "no run has all of these")
        return found


def matcher(name: str, text: str) -> Callable[[RunConfig], bool]:
    """Whether a checked configuration has this value of a parameter; an encoder without layer stands for all layers,
    and a range of layers for each of them.

    Raises:
        RequestError: no run can have such a value.
    """
    value = parse_value(name, text)
    if name == "encoder":
        if value != "ensemble" and "+" not in value and split_request(value)[1:] == (None, []):
            encoder = encoder_spec(value).name
            return lambda config: config.encoder.startswith(f"{encoder}:") and "+" not in config.encoder
        values = {"+".join(map(str, parse_encoders(each))) for each in expand_layers(value)}
        return lambda config: config.encoder in values
    if name in OUTSIDE:
        value = pinned(name, value)
    elif name in ("decoder_options", "fusion_options"):
        value = format_options(parse_options(value, name))
    return lambda config: bool(getattr(config, name) == value)


def read_exclude(value: Value | None, errors: ErrorCollector) -> list[Condition]:
    """The conditions under ``exclude``; wrong ones are left out."""
    if value is None:
        return []
    if not isinstance(value, Items) or not value.values:
        errors.add(value.where, "exclude is a list of one or more conditions, each a mapping of parameters to values, "
                                "as in exclude: [{encoder: vgg16, decoder: wavelet}]")
        return []
    conditions = []
    for number, item in enumerate(value.values, start=1):
        where = f"{item.where}, condition {number}"
        if not isinstance(item, Section) or not item.entries:
            errors.add(where, "a condition of exclude is a mapping of parameters to values, as in "
                                   "{encoder: vgg16, seed: [1, 2]}")
            continue
        values = {name: _read_values(name, item, errors) for name in item.entries}
        if all(values.values()):
            conditions.append(Condition(values, where))
    return conditions


def exclude(configurations: Sequence[Configuration], conditions: Sequence[Condition], where: str, errors: ErrorCollector
            ) -> list[Configuration]:
    """The configurations for which no condition holds. ``where`` is the position of ``exclude``."""
    configs = [each.config for each in configurations]
    left = set(range(len(configs))).difference(
        *(condition.matching(configs, errors) for condition in conditions))
    if configurations and not left:
        errors.add(where, "every run of the grid is excluded")
    return [each for index, each in enumerate(configurations) if index in left]


def _read_values(name: str, section: Section, errors: ErrorCollector) -> tuple[Scalar, ...]:
    value = section.entries[name]
    if name not in RunConfig.model_fields:
        errors.add(section.keys[name], str(unknown_parameter(name)))
        return ()
    items = value.values if isinstance(value, Items) else (value,)
    if not items:
        errors.add(value.where, f"{name}: an empty list; leave it out or give it values")
    scalars = []
    for item in items:
        if not isinstance(item, Scalar):
            errors.add(item.where, f"{name}: a value of a condition is a text or a number, not a list or a mapping")
        elif not item.text.strip():
            with errors.collect(item.where):
                check_value(name, item.text)
        else:
            scalars.append(item)
    return tuple(scalars) if len(scalars) == len(items) else ()


def _having(name: str, scalar: Scalar, configs: Sequence[RunConfig], errors: ErrorCollector) -> set[int]:
    """The positions of the runs that have a value of a parameter; none is an error, which names the nearest value."""
    try:
        matches = matcher(name, scalar.text)
        found = {index for index, config in enumerate(configs) if matches(config)}
    except RequestError:  # no run can have this value: the message is the one for a value that none has here
        found = set()
    if not found:
        known = _values_in(name, configs)
        nearest = difflib.get_close_matches(scalar.text, known, n=1)
        errors.add(scalar.where, f"no run has {name}={scalar.text}. The spec has: {', '.join(known[:MAX_LISTED])}"
                                 f"{', …' if len(known) > MAX_LISTED else ''}."
                                 f"{f' Did you mean {nearest[0]!r}?' if nearest else ''}")
    return found


def _values_in(name: str, configs: Sequence[RunConfig]) -> list[str]:
    """The values of a parameter that a condition can have, in the order of the runs."""
    found: dict[str, None] = {}
    for config in configs:
        text = format_value(config, name)
        if name == "encoder" and "+" not in config.encoder:
            found[split_request(text).encoder] = None
        found[text] = None
    return list(found)
