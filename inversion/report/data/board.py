"""Configurations that can be compared: the runs of a study put together by everything but their seed."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from inversion.report.data.comparable import Group, groups_of, title_of
from inversion.report.data.configuration import Configuration, plain_name
from inversion.report.data.labels import distinguished, identity_of
from inversion.report.data.study_data import ReportRun
from inversion.report.stats.statistics import Comparison, compare_all_pools, compare_family, compare_pools

Key = TypeVar("Key", bound=Hashable)

COMPARED = 60
"""So many configurations are compared with each other: all of the published study's, and 1,770 pairs."""


@dataclass(frozen=True, eq=False)
class Board:
    """Configurations of one protocol, data set, weights and image size, the best first."""

    group: Group
    configurations: Sequence[Configuration]

    @property
    def title(self) -> str:
        """What they have in common."""
        return title_of(self.group)

    @cached_property
    def single(self) -> list[Configuration]:
        """Those of one encoder."""
        return [item for item in self.configurations if not item.is_ensemble]

    @cached_property
    def ensembles(self) -> list[Configuration]:
        """Those of several encoders."""
        return [item for item in self.configurations if item.is_ensemble]

    @property
    def winner(self) -> Configuration:
        """The best of all by test PSNR."""
        return self.configurations[0]

    @cached_property
    def by_label(self) -> dict[str, Configuration]:
        return {item.label: item for item in self.configurations}

    @cached_property
    def chosen(self) -> dict[str, Configuration]:
        """For each plain name (``vgg16:block1+wavelet``) the configuration that stands for it.

        Where it was run with several values of another parameter, the one with the best validation PSNR, or by the
        test where not all of them have one.
        """
        return {name: _best(items) for name, items in together(self.configurations, lambda item: item.plain).items()}

    @property
    def choice(self) -> str:
        """A sentence on what stands for what; empty where there was nothing to choose."""
        several = [item for name, item in self.chosen.items() if item.label != name]
        if not several:
            return ""
        shown = ", ".join(item.label for item in several[:4]) + (" …" if len(several) > 4 else "")
        return ("Of a configuration that was run with several values of another parameter, the one with the best "
                f"validation PSNR (else test PSNR) stands here: {shown}.")

    @cached_property
    def precisions(self) -> list[str]:
        """``bf16``, ``fp32`` or both."""
        return sorted({item.precision for item in self.configurations})

    def having(self, encoder: str | None = None, decoder: str | None = None) -> list[Configuration]:
        """Single models of an encoder's layer, of a decoder, or both, the best first."""
        there = self.single if encoder is None else self._by_encoder.get(encoder, [])
        return [item for item in there if decoder in (None, item.decoder)]

    @cached_property
    def _by_encoder(self) -> dict[str, list[Configuration]]:
        return together(self.single, lambda item: item.encoder)

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """Every pair of the best ``COMPARED`` configurations, paired by image, Holm-corrected over all of them."""
        return compare_all_pools({item.label: item.psnr for item in self.configurations[:COMPARED]})

    @cached_property
    def against_winner(self) -> dict[str, Comparison]:
        """The winner less each other configuration, by the other's label: one family (Holm)."""
        found = self.family([(self.winner, item) for item in self.configurations[1:]])
        return {label: comparison for (_, label), comparison in found.items()}

    def family(self, pairs: Iterable[tuple[Configuration, Configuration]]) -> dict[tuple[str, str], Comparison]:
        """The first less the second of each pair, by their labels, Holm-corrected over these pairs."""
        labels = [(a.label, b.label) for a, b in pairs if a is not b]
        return compare_family({name: self.by_label[name].psnr for pair in labels for name in pair}, labels)

    def compare(self, a: str, b: str) -> Comparison | None:
        """Two configurations by label, paired by image, not corrected; None if one of them is not here."""
        if a not in self.by_label or b not in self.by_label:
            return None
        return compare_pools(self.by_label[a].psnr, self.by_label[b].psnr)


def together(items: Iterable[Configuration], key: Callable[[Configuration], Key]) -> dict[Key, list[Configuration]]:
    """Configurations by what they share, in their order."""
    found: dict[Key, list[Configuration]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def make_boards(runs: Iterable[ReportRun]) -> list[Board]:
    """The scored runs in groups of those that can be compared, the largest group first.

    Scores on other images than the rest's, whatever the digests say, make a group of their own.
    """
    scored = [run for run in runs if run.is_scored]
    groups: dict[tuple[Group, frozenset[str]], list[ReportRun]] = {}
    for run, group in zip(scored, groups_of([run.document for run in scored]), strict=True):
        groups.setdefault((group, run.images), []).append(run)
    boards = [Board(group, _configurations(members)) for (group, _), members in groups.items()]
    return sorted(boards, key=lambda board: (-len(board.configurations), board.group))


def _configurations(runs: Sequence[ReportRun]) -> list[Configuration]:
    members: dict[str, dict[int, ReportRun]] = {}
    for run in runs:
        members.setdefault(identity_of(run.document), {})[run.parameters["seed"]] = run
    first = [next(iter(seeds.values())) for seeds in members.values()]
    labels = distinguished([plain_name(run.parameters) for run in first], [run.document for run in first])
    found = [Configuration(label, dict(sorted(seeds.items())))
             for label, seeds in zip(labels, members.values(), strict=True)]
    return sorted(found, key=lambda item: (-item.psnr.mean, item.label))


def _best(items: Sequence[Configuration]) -> Configuration:
    if any(item.best_validation is None for item in items):
        return items[0]
    return max(items, key=lambda item: item.best_validation or 0.0)
