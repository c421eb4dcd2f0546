"""Compares studies: each with the first one, over the configurations that occur in both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from inversion.report.build import boards_of
from inversion.report.data.between import Between, between
from inversion.report.data.matching import Matching, Member, match, members_of
from inversion.report.data.study import StudyData
from inversion.report.render import comparison_charts
from inversion.report.render.comparison import StudyComparison
from inversion.report.stats.comparisons import FEWEST_IMAGES, holds_up, trainings_differ
from inversion.report.tables import studies
from inversion.report.tables.rankings import leaderboard_of
from inversion.report.tables.table import ReportTable
from inversion.text import first_of, number
from inversion.tracking.connection import Connection

VALUES = 3
"""Values of a parameter that a sentence lists."""


def compare_studies(connection: Connection, data: Sequence[StudyData], seed_sd: float | None = None
                    ) -> StudyComparison:
    """Compares each of several studies with the first.

    ``seed_sd`` is the standard deviation between trainings in dB; None to measure it.
    """
    names = [study.name for study in data]
    boards = [boards_of(connection, study, seed_sd) for study in data]
    members = members_of(boards)
    headline: list[str] = []
    differences: list[ReportTable] = []
    figures: dict[str, Any] = {}
    distinguished: set[str] = set()
    for count, other in enumerate(members[1:], start=2):
        pair, matching = (names[0], names[count - 1]), match(members[0], other)
        found = between(connection, matching.matches, seed_sd)
        distinguished |= set(matching.distinguished)
        headline += _sentences(pair, (members[0], other), matching, found)
        for part, each in enumerate(found, start=1):
            key = f"compared-{count}" + (f"-{part}" if part > 1 else "")
            differences.append(studies.compared(key, pair, each))
            figures[key] = comparison_charts.between(pair, each)
    largest = [study[0] if study else None for study in boards]
    tables = [studies.distinctions(names, members, sorted(distinguished)), studies.beside(names, largest),
              studies.overview(names, members)]
    leaderboards = [leaderboard_of(board, name, count)
                    for count, (name, board) in enumerate(zip(names, largest, strict=True), start=1) if board]
    return StudyComparison(names, headline, [table for table in tables if table.rows], differences, leaderboards,
                           figures)


def _sentences(names: tuple[str, str], members: tuple[Sequence[Member], Sequence[Member]], matching: Matching,
               found: Sequence[Between]) -> list[str]:
    """What two studies differ in, and what that does to the configurations of both."""
    first, second = names
    for name, other, side in zip(names, names[::-1], members, strict=True):
        if not side:
            return [f"No run of {name} has scores yet: it cannot be compared with {other}."]
    sentences = [_distinguished(names, members, matching)]
    for each in found:
        sentences += [_scores(names, each), _order(names, each)]
    if matching.unclear:
        sentences.append(f"Both studies have several of {first_of(matching.unclear, VALUES)} that differ in nothing "
                         "else, so that these are not compared.")
    elif not found:
        sentences.append(f"No configuration occurs in both {first} and {second}.")
    alone = [f"{count} of {name}" for count, name in zip(matching.alone, names, strict=True) if count]
    if found and alone:
        sentences.append(f"Without a counterpart: {' and '.join(alone)}.")
    return [sentence for sentence in sentences if sentence]


def _distinguished(names: tuple[str, str], members: tuple[Sequence[Member], Sequence[Member]], matching: Matching
                   ) -> str:
    first, second = names
    if not matching.distinguished:
        return f"No parameter distinguishes {second} from {first}."
    parts = []
    for parameter in matching.distinguished:
        mine, its = (sorted({member.facts.get(parameter, "none") for member in side}) for side in members)
        parts.append(f"{parameter} ({first_of(its, VALUES)} instead of {first_of(mine, VALUES)})")
    return f"{second} differs from {first} in {', '.join(parts)}."


def _scores(names: tuple[str, str], found: Between) -> str:
    """In how many configurations the second study is above the first, and by how much."""
    first, second = names
    count = len(found.matches)
    who = f"{count} configuration{' is' if count == 1 else 's are'} in both"
    if found.apart:
        return f"{who}. Their scores are not subtracted: {' and '.join(found.apart)}."
    return f"{who}, {_images(found)}: {second} is {_directions(first, found)}."


def _images(found: Between) -> str:
    one, other = found.images
    few = ", which are too few to tell" if min(one, other) < FEWEST_IMAGES else ""
    if found.is_paired:
        return f"scored on the same {one} test image{'s' if one > 1 else ''}{few}"
    return f"on test images that are not known to be the same ({one} and {other}{few}), which may be the difference"


def _directions(first: str, found: Between) -> str:
    """In how many configurations there is a difference in each direction, and its size."""
    decided = holds_up if found.noise else trainings_differ
    verdict = "hold up" if found.noise else "of trained networks that differ"
    differences = [each.difference for each in found.comparisons]
    parts = []
    for word, sign in ((f"above {first}", 1), ("below", -1)):
        there = [each for each in found.comparisons if each.difference * sign > 0]
        parts.append(f"{word} in {len(there)}" + (f" ({sum(map(decided, there))} {verdict})" if there else ""))
    low, high, mean = (number(value, "+.2f")
                       for value in (min(differences), max(differences), sum(differences) / len(differences)))
    size = f"by {low} dB" if len(differences) == 1 else f"by {low} to {high} dB, {mean} dB on average"
    seeds = "" if found.noise else "; every configuration has one seed, so nothing is known of other trainings"
    return f"{' and '.join(parts)}, {size}{seeds}"


def _order(names: tuple[str, str], found: Between) -> str:
    """Whether the two studies order the configurations alike."""
    if len(found.matches) < 2:
        return ""
    ranks = found.ranks()
    best = [next(match.name for match, rank in zip(found.matches, ranks, strict=True) if rank[side] == 1)
            for side in (0, 1)]
    agreement = found.agreement
    correlation = f" (rank correlation {number(agreement, '+.2f')})" if agreement is not None else ""
    ordered = sorted(ranks)
    if all(after[1] >= before[1] for before, after in pairwise(ordered)):
        return f"Both order these configurations alike: {best[0]} is first."
    if best[0] == best[1]:
        return f"{best[0]} is first of these in both; the order of the others differs{correlation}."
    return f"{best[0]} is first of these in {names[0]}, {best[1]} in {names[1]}{correlation}."
