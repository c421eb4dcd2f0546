"""Resolution or number of values? Feature maps of one network that have one of the two in common."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inversion.errors import InversionError
from inversion.models.encoders.catalog import EncoderCut, parse_encoders
from inversion.report.data.board import Board, group_by
from inversion.report.data.configuration import Configuration
from inversion.report.stats.comparisons import correct
from inversion.report.tables.questions import NOT_TUNED, ONE_SEED, difference_columns, difference_fields
from inversion.report.tables.table import ReportTable, Shown

RESHAPING = frozenset({"pool", "channels"})
"""Modifiers that change the number of locations or channels; all others must be equal on both sides."""

VALUES, LOCATIONS = "values", "locations"

NOTE = ("Feature maps of one network with the same decoder, other modifiers and parameters. With equal numbers of "
        "values (channels × locations), every finer map minus every coarser one; with equal resolution, the map with "
        "the most values minus each other one. Layers of different depth differ in more than that: the pairs of one "
        "layer are marked. Which pairs are compared follows from the shapes alone, so p is corrected for the rows of "
        "this table (Holm).")


@dataclass(frozen=True)
class _Map:
    """The features of a configuration with one encoder."""

    item: Configuration
    cut: EncoderCut
    channels: int
    locations: int

    @property
    def values(self) -> int:
        return self.channels * self.locations

    @property
    def others(self) -> tuple[Any, ...]:
        """Equal for two maps of one network that differ only in layer, pooling and projection.

        Parts of layers, as class tokens, are compared with those of other layers only.
        """
        layer = self.cut.spec.layers.get(self.cut.layer)  # of an encoder from outside, only the name is known
        part = layer.part if layer else ""
        rest = tuple(modifier for modifier in self.cut.modifiers if modifier.name not in RESHAPING)
        return self.cut.encoder, part, rest, self.item.same_decoder


@dataclass(frozen=True)
class _Pair:
    """Two maps with equal ``values`` or ``locations``; the first has more of the other."""

    equal: str
    first: _Map
    second: _Map

    @property
    def key(self) -> tuple[str, str]:
        return self.first.item.label, self.second.item.label

    @property
    def is_of_one_layer(self) -> bool:
        return self.first.cut.layer == self.second.cut.layer


def resolution_or_values(board: Board) -> ReportTable:
    """Every pair of maps with equal numbers of values, or equal resolution."""
    pairs = _pairs_of(board)
    compared = correct({pair.key: board.compare_alone(pair.first.item, pair.second.item) for pair in pairs})
    rows = [{"equal": _held(pair), "first": pair.first.item.label, "second": pair.second.item.label,
             "first_shape": _shape(pair.first), "second_shape": _shape(pair.second),
             "first_psnr": pair.first.item.psnr.mean, "second_psnr": pair.second.item.psnr.mean,
             "layer": "same" if pair.is_of_one_layer else "other", "kind": pair.equal,
             **difference_fields(compared[pair.key])} for pair in pairs]
    shown = [Shown("equal", "{equal}"), Shown("finer, or more values", "{first} ({first_shape})"),
             Shown("PSNR (dB)", "{first_psnr:.2f}"), Shown("coarser, or fewer values", "{second} ({second_shape})"),
             Shown("PSNR (dB)", "{second_psnr:.2f}"), Shown("layer", "{layer}"), *difference_columns(rows)]
    seeds = "" if board.noise else f" {ONE_SEED}"
    tuned = "" if board.is_tuned("lr") else NOT_TUNED
    return ReportTable("resolution-or-values", "Resolution or number of values?", shown, rows,
                       f"{' '.join(answers(rows))} {NOTE}{seeds}{tuned}".strip())


def compared_labels(board: Board) -> dict[tuple[str, str], bool]:
    """The labels of the pairs of the table, one family; whether both are of one layer."""
    return {pair.key: pair.is_of_one_layer for pair in _pairs_of(board)}


def answers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the rows of the table come to, a sentence for each kind of pair, for pairs of one layer."""
    sentences = []
    for kind, what in ((VALUES, "With equal numbers of values, the finer map is"),
                       (LOCATIONS, "With equal resolution, the map with more values is")):
        mine = [row for row in rows if row["kind"] == kind and row["layer"] == "same"]
        better, worse = (sum(row["holds"] == "yes" and sign * row["difference"] > 0 for row in mine)
                         for sign in (1, -1))
        open_ = len(mine) - better - worse
        if mine:
            sentences.append(f"{what} better in {better} of {len(mine)} comparisons within one layer, and worse in "
                             f"{worse}; {open_} {'is' if open_ == 1 else 'are'} undecided.")
    return sentences


def _pairs_of(board: Board) -> list[_Pair]:
    pairs = list(_pairs([found for item in board.single if (found := _map_of(item))]))
    # layers alone say nothing of this question
    return pairs if any(pair.equal == VALUES for pair in pairs) else []


def _pairs(maps: Sequence[_Map]) -> Iterator[_Pair]:
    for members in _groups(maps, VALUES):
        for first, second in itertools.combinations(sorted(members, key=lambda one: -one.locations), 2):
            if first.locations > second.locations:
                yield _Pair(VALUES, first, second)
    for members in _groups(maps, LOCATIONS):
        most, *others = sorted(members, key=lambda one: (-one.values, one.item.label))
        yield from (_Pair(LOCATIONS, most, other) for other in others if other.values < most.values)


def _groups(maps: Sequence[_Map], equal: str) -> list[list[_Map]]:
    """Groups of maps that have ``values`` or ``locations`` and all else but the shape in common; the largest first."""
    found = group_by(maps, lambda one: (-getattr(one, equal), one.others))
    return [found[key] for key in sorted(found, key=lambda key: (key[0], str(key[1])))]


def _map_of(item: Configuration) -> _Map | None:
    channels, locations = item.cost("feature_channels"), item.cost("feature_locations")
    if not channels or not locations:
        return None
    try:
        cut, = parse_encoders(item.encoder)
    except InversionError:  # from another version of inversion or timm
        return None
    return _Map(item, cut, round(channels), round(locations))


def _held(pair: _Pair) -> str:
    return f"{getattr(pair.first, pair.equal):,} {pair.equal}"


def _shape(one: _Map) -> str:
    return f"{one.channels} channels, {one.locations:,} locations"
