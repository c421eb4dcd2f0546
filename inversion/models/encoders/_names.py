"""Finding a model's tensors in the content of a checkpoint, by name.

A checkpoint may nest the state dict in other dicts (``state_dict``, ``teacher``), prefix all names with that of a
wrapping module (``module.``, ``module.encoder_q.``, ``backbone.``), and hold other tensors too. When nested names are
joined by dots, all of this is one case: the model's tensors have a common prefix.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from inversion.text import first_of

COUNTER = "num_batches_tracked"
"""BatchNorm's batch counters do not affect the features and may be missing."""

MOST_LEVELS = 32
MOST_NAMES = 200_000
MOST_SHOWN = 6

_OUTER = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and ``torch.compile`` add to every name."""


class NamesError(Exception):
    """No tensors have the needed names, or the choice is ambiguous; the message says which."""


def flatten(content: object) -> dict[str, Tensor]:
    """All tensors in nested dicts by dotted name, without the part that all names have in common.

    Raises:
        NamesError: a dict contains itself, there are too many entries or levels, or two tensors have the same name.
    """
    found: dict[tuple[str, ...], Tensor] = {}
    pending: list[tuple[tuple[str, ...], Any, frozenset[int]]] = [((), content, frozenset())]
    seen = 0
    while pending:
        path, value, around = pending.pop()
        if isinstance(value, Tensor):
            if path:
                found[path] = value
        elif isinstance(value, Mapping):
            if id(value) in around:
                raise NamesError(f"the dict {'.'.join(path[:3])!r} contains itself")
            seen += len(value)
            if seen > MOST_NAMES or len(path) > MOST_LEVELS:
                raise NamesError(f"it holds more than {MOST_NAMES:,} entries, or dicts more than {MOST_LEVELS} deep")
            entries = [(name, entry) for name, entry in value.items() if isinstance(name, str)]
            pending += [((*path, name), entry, around | {id(value)}) for name, entry in reversed(entries)]
    return _joined(found)


def without_outer(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Removes the prefixes of wrapping modules that every name has."""
    names = dict(found)
    while names and (prefix := next((outer for outer in _OUTER if all(name.startswith(outer) for name in names)), "")):
        names = below(names, prefix)
    return names


def below(found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with the prefix, under names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def part_of(found: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The tensors below ``part`` (``teacher``, ``state_dict.module.encoder_q``), at any depth.

    Raises:
        NamesError: there is no such part, or there are several.
    """
    wanted = part.strip(".") + "."
    prefixes = {name[: f".{name}".index(f".{wanted}")] for name in found if f".{wanted}" in f".{name}"}
    if "" in prefixes:
        prefixes = {""}
    if part and len(prefixes) == 1:
        return below(found, prefixes.pop() + wanted)
    if prefixes and part:
        places = _listed(prefix + part for prefix in prefixes)
        raise NamesError(f"it has several parts {part!r}: {places}")
    known = sorted({name[:place] for name in found for place in _dots(name)[:2]})
    message = f"it has no part {part!r}. Known: {_listed(known)}."
    if nearest := difflib.get_close_matches(part, known, n=1):
        message += f" Did you mean {nearest[0]!r}?"
    raise NamesError(message)


def prefixes_with(needed: Iterable[str], found: Iterable[str]) -> list[str]:
    """The prefixes under which all needed names are found; if there is none, the one with the most of them.

    If the names are found without a prefix, the empty prefix is the only result.
    """
    wanted = {name for name in needed if not name.endswith(COUNTER)}
    counts: Counter[str] = Counter()
    for name in found:
        counts.update(name[:place] for place in (0, *(dot + 1 for dot in _dots(name))) if name[place:] in wanted)
    whole = sorted(prefix for prefix, count in counts.items() if count == len(wanted))
    if whole:
        return [""] if "" in whole else whole
    return [max(counts, key=lambda prefix: (counts[prefix], -len(prefix)))] if counts else [""]


def large_prefixes(found: Iterable[str], least: int) -> list[str]:
    """The prefixes that at least ``least`` names have, the empty one first."""
    counts = Counter(name[: dot + 1] for name in found for dot in _dots(name)[:4])
    return ["", *sorted(prefix for prefix, count in counts.items() if count >= max(1, least))]


def one_of(candidates: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Chooses one of several prefixes, each with the tensors under it, if their tensors are equal.

    Raises:
        NamesError: the tensors differ.
    """
    first, *others = candidates
    if all(_same(candidates[first], candidates[other]) for other in others):
        return first
    names = [prefix.removesuffix(".") for prefix in candidates]
    raise NamesError(f"the tensors are there {len(names)} times, as {_listed(names)}. Say which: "
                     f"{' or '.join(f'FILE#{name}' for name in names[:2])}")


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    try:
        return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    except (RuntimeError, NotImplementedError):  # of different dtypes, or not comparable
        return False


def _joined(found: Mapping[tuple[str, ...], Tensor]) -> dict[str, Tensor]:
    shared = 0
    while found and all(len(path) > shared + 1 for path in found) and len({path[shared] for path in found}) == 1:
        shared += 1
    names: dict[str, Tensor] = {}
    for path, tensor in found.items():
        name = ".".join(path[shared:])
        if name in names:
            raise NamesError(f"two tensors in it have the name {name!r}")
        names[name] = tensor
    return names


def _dots(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "."]


def _listed(names: Iterable[str]) -> str:
    return first_of([repr(name) for name in sorted(names)], MOST_SHOWN)
