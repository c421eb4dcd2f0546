"""Several paths in one text, as in a shell: ``{000..099}``, ``{train,val}``, and wildcards (``*``, ``?``, ``[…]``)."""

from __future__ import annotations

import glob
import re
from itertools import pairwise

from inversion.errors import RequestError

MOST = 1_000_000
"""More paths than this are a slip of the keyboard."""

_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def paths(pattern: str) -> list[str]:
    """The paths that a pattern names: those of braces in their order, whether they exist or not, those of wildcards
    sorted, and only existing ones.

    Raises:
        RequestError: the braces are wrong.
    """
    return [path for text in expanded(pattern)
            for path in (sorted(glob.glob(text)) if glob.has_magic(text) else [text])]


def expanded(pattern: str) -> list[str]:
    """The texts of a pattern with braces: ``a{08..10}`` is a08, a09, a10; groups may stand in groups.

    Raises:
        RequestError: a brace has no partner, or a group is neither a range nor a list.
    """
    start = pattern.find("{")
    if start < 0:
        if "}" in pattern:
            raise RequestError(f"{pattern!r}: a brace without its partner")
        return [pattern]
    end, commas = _group(pattern, start)
    edges = [start, *commas, end]
    parts = [pattern[one + 1:other] for one, other in pairwise(edges)]
    choices = [text for part in parts for text in expanded(part)] if commas else _range(parts[0], pattern)
    rests = expanded(pattern[end + 1:])
    _limit(len(choices) * len(rests), pattern)
    return list(dict.fromkeys(pattern[:start] + choice + rest for choice in choices for rest in rests))


def _group(pattern: str, start: int) -> tuple[int, list[int]]:
    """Where the group that begins at ``start`` ends, and its commas outside of groups in it."""
    depth, commas = 0, list[int]()
    for place in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if depth == 0:
            return place, commas
        if depth == 1 and pattern[place] == ",":
            commas.append(place)
    raise RequestError(f"{pattern!r}: a brace without its partner")


def _range(inside: str, pattern: str) -> list[str]:
    if not (bounds := _RANGE.fullmatch(inside)):
        raise RequestError(f"{pattern!r}: {{{inside}}} is neither a range like {{000..099}} nor a list like "
                           "{train,val}")
    first, last = int(bounds[1]), int(bounds[2])
    _limit(abs(last - first) + 1, pattern)
    padded = any(len(bound) > 1 and bound.startswith("0") for bound in bounds.groups())
    width = max(map(len, bounds.groups())) if padded else 0
    step = 1 if last >= first else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def _limit(count: int, pattern: str) -> None:
    if count > MOST:
        raise RequestError(f"{pattern!r} stands for more than {MOST:,} paths")
