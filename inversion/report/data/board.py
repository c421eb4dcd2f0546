"""Boards: groups of comparable configurations, best first, with their paired comparisons."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from inversion.report.data.comparable import Group, distinguished, groups_of, identity_of, title_of
from inversion.report.data.configuration import Configuration, plain_name
from inversion.report.data.study import ReportRun
from inversion.report.stats.comparisons import Comparison, compare_all_pools, compare_family, compare_pools

Key = TypeVar("Key", bound=Hashable)

COMPARED = 60
"""Number of configurations that are compared with each other (1,770 pairs)."""


@dataclass(frozen=True, eq=False)
class Board:
    """Configurations of one protocol, data set, weights and image size, best first."""

    group: Group
    configurations: Sequence[Configuration]

    @property
    def title(self) -> str:
        """What they have in common."""
        return title_of(self.group)

    @cached_property
    def single(self) -> list[Configuration]:
        """Configurations with one encoder."""
        return [item for item in self.configurations if not item.is_ensemble]

    @cached_property
    def ensembles(self) -> list[Configuration]:
        """Configurations with several encoders."""
        return [item for item in self.configurations if item.is_ensemble]

    @property
    def winner(self) -> Configuration:
        """The best configuration by test PSNR."""
        return self.configurations[0]

    @cached_property
    def by_label(self) -> dict[str, Configuration]:
        return {item.label: item for item in self.configurations}

    @cached_property
    def chosen(self) -> dict[str, Configuration]:
        """The configuration that represents each plain name (``vgg16:block1+wavelet``).

        Of several variants, the one with the best validation PSNR; by test PSNR if one has no validation PSNR.
        """
        return {name: _best(items) for name, items in group_by(self.configurations, lambda item: item.plain).items()}

    @property
    def choice(self) -> str:
        """A sentence naming the chosen variants; empty if no configuration has several."""
        several = [item for name, item in self.chosen.items() if item.label != name]
        if not several:
            return ""
        shown = ", ".join(item.label for item in several[:4]) + (" …" if len(several) > 4 else "")
        return ("For a configuration that was run with several values of another parameter, the variant with the best "
                f"validation PSNR (else test PSNR) is used here: {shown}.")

    @cached_property
    def precisions(self) -> list[str]:
        """``bf16``, ``fp32`` or both."""
        return sorted({item.precision for item in self.configurations})

    def having(self, encoder: str | None = None, decoder: str | None = None) -> list[Configuration]:
        """Single models with this encoder, this decoder, or both, best first."""
        there = self.single if encoder is None else self._by_encoder.get(encoder, [])
        return [item for item in there if decoder in (None, item.decoder)]

    @cached_property
    def _by_encoder(self) -> dict[str, list[Configuration]]:
        return group_by(self.single, lambda item: item.encoder)

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """Every pair of the best ``COMPARED`` configurations, paired by image, Holm-corrected over all pairs."""
        return compare_all_pools({item.label: item.psnr for item in self.configurations[:COMPARED]})

    @cached_property
    def against_winner(self) -> dict[str, Comparison]:
        """The winner minus each other configuration, by the label of the other; one Holm family."""
        found = self.family([(self.winner, item) for item in self.configurations[1:]])
        return {label: comparison for (_, label), comparison in found.items()}

    def family(self, pairs: Iterable[tuple[Configuration, Configuration]]) -> dict[tuple[str, str], Comparison]:
        """First minus second configuration of each pair, by labels, Holm-corrected over these pairs."""
        labels = [(a.label, b.label) for a, b in pairs if a is not b]
        return compare_family({name: self.by_label[name].psnr for pair in labels for name in pair}, labels)

    def compare(self, a: str, b: str) -> Comparison | None:
        """Compares two configurations by label, paired by image, not corrected; None if one is not on this board."""
        if a not in self.by_label or b not in self.by_label:
            return None
        return compare_pools(self.by_label[a].psnr, self.by_label[b].psnr)


def group_by(items: Iterable[Configuration], key: Callable[[Configuration], Key]) -> dict[Key, list[Configuration]]:
    """Groups configurations by a key, keeping their order."""
    found: dict[Key, list[Configuration]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def make_boards(runs: Iterable[ReportRun]) -> list[Board]:
    """Groups the scored runs into boards of comparable configurations, largest first.

    Runs that were scored on different test images never share a board, whatever their digests say.
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
