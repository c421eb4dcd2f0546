"""The same configurations in two studies: their differences where scores can be subtracted, else why they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inversion.report.data.board import Board, group_by
from inversion.report.data.matching import SCALE, Match
from inversion.report.data.same_images import same_images
from inversion.report.stats.comparisons import Comparison, compare_apart, compare_pools, correct, rank_correlation
from inversion.report.stats.seed_noise import SeedNoise, measure_seed_noise
from inversion.tracking.connection import Connection

APART = {"protocol": "the protocol differs, so that decoders have other targets",
         "image_size": "the image size differs, so that the scores are of other pixels"}
"""Why scores are not subtracted."""


@dataclass(frozen=True)
class Between:
    """The configurations that a board of one study and a board of another have in common.

    Attributes:
        matches: The configurations.
        comparisons: The second study minus the first for each of them, one family; empty if scores are not
            subtracted.
        noise: The seed noise of both boards; None if it is not known.
        apart: Why scores are not subtracted; empty if they are.
    """

    matches: Sequence[Match]
    comparisons: Sequence[Comparison]
    noise: SeedNoise | None
    apart: Sequence[str] = ()

    @property
    def boards(self) -> tuple[Board, Board]:
        return self.matches[0].first.board, self.matches[0].second.board

    @property
    def is_paired(self) -> bool:
        """Whether both studies scored the same images."""
        return bool(self.comparisons) and self.comparisons[0].is_paired

    @property
    def images(self) -> tuple[int, int]:
        """Numbers of test images."""
        first, second = (len(board.winner.psnr.table) for board in self.boards)
        return first, second

    @property
    def agreement(self) -> float | None:
        """Rank correlation of the configurations' PSNR in the two studies."""
        return rank_correlation([match.first.item.psnr.mean for match in self.matches],
                                [match.second.item.psnr.mean for match in self.matches])

    def ranks(self) -> list[tuple[int, int]]:
        """The ranks of each configuration among these, by PSNR in the first and in the second study."""
        sides = []
        for items in ([match.first.item for match in self.matches], [match.second.item for match in self.matches]):
            order = sorted((item.psnr.mean for item in items), reverse=True)
            sides.append([order.index(item.psnr.mean) + 1 for item in items])
        return list(zip(*sides, strict=True))


def between(connection: Connection, matches: Sequence[Match], seed_sd: float | None = None) -> list[Between]:
    """The common configurations of two studies by the boards that they are on, the largest number first.

    ``seed_sd`` is the standard deviation between trainings in dB; None to measure it on both boards together.
    """
    groups = group_by(matches, lambda match: (match.first.board, match.second.board))
    found = [_between(connection, members, seed_sd) for members in groups.values()]
    return sorted(found, key=lambda each: -len(each.matches))


def _between(connection: Connection, matches: Sequence[Match], seed_sd: float | None) -> Between:
    first, second = matches[0].first, matches[0].second
    pools = {item: item.psnr for member in (first, second) for item in member.board.configurations}
    noise = measure_seed_noise(pools.values()) if seed_sd is None else SeedNoise(seed_sd)
    if apart := [APART[name] for name in SCALE if first.facts[name] != second.facts[name]]:
        return Between(matches, [], noise, apart)
    runs = [next(iter(member.item.runs.values())) for member in (first, second)]
    compare = compare_pools if same_images(connection, *runs) else compare_apart
    found = correct({number: compare(match.second.item.psnr, match.first.item.psnr, noise)
                     for number, match in enumerate(matches)})
    return Between(matches, list(found.values()), noise)
