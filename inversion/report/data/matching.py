"""The configurations that occur in two studies: equal in everything but what distinguishes the studies.

A parameter distinguishes two studies if they share none of its values, such as ``epochs`` 30 in one and 60 in the
other. Where they share a value (30, and 30 and 60), only configurations with the same value are matched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from inversion.report.data.board import Board, group_by
from inversion.report.data.comparable import COMPARABLE, Group, groups_of
from inversion.report.data.configuration import Configuration

NAMED = frozenset({"encoder", "layer", "decoder", "fusion", "seed"})
"""What a configuration is called by, which is always the same on both sides, and the seed, which belongs to a run."""

SCALE = ("protocol", "image_size")
"""Where these differ, scores are of other targets or of other pixels, and are not subtracted."""

TUNED = "tuned"
"""Stands for the value of a parameter that was chosen for each configuration by its validation PSNR."""

Facts = Mapping[str, str]
"""Everything that decides the scores of a configuration beside its name, as texts."""


@dataclass(frozen=True, eq=False)
class Member:
    """A configuration of a study, its board, and what decides its scores."""

    item: Configuration
    board: Board
    facts: Facts

    @cached_property
    def group(self) -> Group:
        """What it can be compared with, in texts that mean the same in all studies that were read together."""
        return tuple(self.facts[name] for name in COMPARABLE)

    @property
    def scale(self) -> tuple[str, ...]:
        """Equal for two configurations whose scores can be subtracted."""
        return tuple(self.facts[name] for name in SCALE)


@dataclass(frozen=True, eq=False)
class Match:
    """One configuration in two studies."""

    name: str
    first: Member
    second: Member


@dataclass(frozen=True)
class Matching:
    """What two studies have in common.

    Attributes:
        distinguished: The parameters that distinguish the studies.
        matches: The configurations that occur in both, the best of the first study first.
        alone: The numbers of configurations that occur in the first or in the second study only.
        unclear: Names of configurations of which both studies have several that differ in nothing else.
    """

    distinguished: Sequence[str]
    matches: Sequence[Match]
    alone: tuple[int, int]
    unclear: Sequence[str]


def members_of(studies: Sequence[Sequence[Board]]) -> list[list[Member]]:
    """The configurations of each study; equal facts mean the same in all of them."""
    ours = [[(item, board) for board in boards for item in board.configurations] for boards in studies]
    everything = [item for study in ours for item, _ in study]
    groups = iter(groups_of([next(iter(item.runs.values())).document for item in everything]))
    return [[Member(item, board, _facts(item, next(groups))) for item, board in study] for study in ours]


def match(first: Sequence[Member], second: Sequence[Member]) -> Matching:
    """The configurations that occur in both of two studies."""
    distinguished = distinguishing(first, second)
    sides = [group_by(members, lambda member: _key(member, distinguished)) for members in (first, second)]
    pairs: list[tuple[Member, Member]] = []
    unclear = []
    for key, mine in sides[0].items():
        its = sides[1].get(key, [])
        if len(mine) > 1 and len(its) > 1:
            unclear.append(key[0])
        else:
            pairs += [(one, other) for one in mine for other in its]
    common = sides[0].keys() & sides[1].keys()
    alone = [sum(len(members) for key, members in side.items() if key not in common) for side in sides]
    return Matching(distinguished, _named(pairs), (alone[0], alone[1]), unclear)


def distinguishing(first: Iterable[Member], second: Iterable[Member]) -> list[str]:
    """The parameters that distinguish two studies."""
    mine, its = values_of(first), values_of(second)
    return [name for name in mine | its if not mine.get(name, set()) & its.get(name, set())] if mine and its else []


def values_of(members: Iterable[Member]) -> dict[str, set[str]]:
    """The values that each parameter has in a study; what decides comparability first."""
    values: dict[str, set[str]] = {}
    for member in members:
        for name, value in member.facts.items():
            values.setdefault(name, set()).add(value)
    return values


def _facts(item: Configuration, group: Group) -> Facts:
    identity = next(iter(item.runs.values())).document["identity"]
    tuned = frozenset(item.choice.names if item.choice else ())
    own = {name: TUNED if name in tuned else str(value) for name, value in sorted(identity["parameters"].items())
           if name not in NAMED}
    return dict(zip(COMPARABLE, group, strict=True)) | {name: own[name] for name in own if name not in COMPARABLE}


def _key(member: Member, left_out: Sequence[str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    return member.item.plain, tuple(sorted(pair for pair in member.facts.items() if pair[0] not in left_out))


def _named(pairs: Sequence[tuple[Member, Member]]) -> list[Match]:
    """The pairs with their common name; where several have it, with the label that tells them apart."""
    named: dict[tuple[Member, Member], Match] = {}
    for name, several in group_by(pairs, lambda pair: pair[0].item.plain).items():
        labels = [[member.item.label for member in side] for side in zip(*several, strict=True)]
        if len(several) == 1:
            names = [name]
        else:
            names = next((found for found in labels if len(set(found)) == len(found)),
                         [" and ".join(both) for both in zip(*labels, strict=True)])
        named |= {pair: Match(own, *pair) for pair, own in zip(several, names, strict=True)}
    return [named[pair] for pair in pairs]
