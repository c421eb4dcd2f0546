"""Boards: groups of comparable configurations, best first, with their paired comparisons."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from inversion.metrics import FLOORS, Metric
from inversion.report.data.comparable import Group, distinguished, groups_of, identity_of, title_of
from inversion.report.data.configuration import Configuration, plain_name
from inversion.report.data.study import ReportRun
from inversion.report.data.tuning import Choice, Tuned, choose
from inversion.report.stats.comparisons import AllPairs, Comparison, compare_pools, correct
from inversion.report.stats.intervals import Interval, pool_interval
from inversion.report.stats.seed_noise import FEW_SEEDS, SeedNoise, measure_seed_noise

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

COMPARED = 60
"""Number of configurations whose differences are listed (1,770 pairs)."""


@dataclass(frozen=True, eq=False)
class Board:
    """Configurations of one protocol, data set, weights and image size, best first."""

    group: Group
    configurations: Sequence[Configuration]
    seed_sd: float | None = None
    """Standard deviation between trainings in dB, if it is known from elsewhere."""
    preferred: Callable[[Configuration], bool] | None = None
    """Which variants of a configuration ``chosen`` takes if there are any; None for no preference."""

    @cached_property
    def noise(self) -> SeedNoise | None:
        """The seed noise of these configurations: given, or measured on those with several seeds; else None."""
        measured = measure_seed_noise(item.psnr for item in self.configurations)
        return measured if self.seed_sd is None else SeedNoise(self.seed_sd)

    @property
    def few_seeds(self) -> str:
        """How configurations with fewer seeds than most are judged; empty without such."""
        is_any = self.noise is not None and any(self.noise.has_few_seeds(item.psnr) for item in self.configurations)
        return FEW_SEEDS if is_any else ""

    def interval(self, item: Configuration) -> Interval | None:
        """The 95 % interval of a configuration's mean PSNR; None for a single image."""
        return pool_interval(item.psnr, self.noise)

    def is_tuned(self, name: str) -> bool:
        """Whether the value of a parameter was chosen for each configuration by its validation PSNR."""
        return all(item.choice is not None and name in item.choice.names for item in self.configurations)

    @property
    def title(self) -> str:
        """What they have in common."""
        return title_of(self.group)

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that its configurations can have, by name: ours, and those of the user's own."""
        return {name: metric for item in self.configurations for name, metric in item.metrics.items()}

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

        Of several variants, or of the preferred ones if there are any, the one with the best validation PSNR; by test
        PSNR if one has no validation PSNR.
        """
        variants = group_by(self.configurations, lambda item: item.plain)
        return {name: best_of(self._preferred(items)) for name, items in variants.items()}

    def _preferred(self, items: Sequence[Configuration]) -> Sequence[Configuration]:
        return [item for item in items if self.preferred and self.preferred(item)] or items

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
    def _pairs(self) -> AllPairs:
        return AllPairs({item.label: item.psnr for item in self.configurations}, self.noise)

    @cached_property
    def comparisons(self) -> dict[tuple[str, str], Comparison]:
        """Every pair of the best ``COMPARED`` configurations."""
        return self._pairs.among([item.label for item in self.configurations[:COMPARED]])

    @cached_property
    def against_winner(self) -> dict[str, Comparison]:
        """The winner minus each other configuration, by the label of the other."""
        return {item.label: self.compare(self.winner, item) for item in self.configurations[1:]}

    def compare(self, a: Configuration, b: Configuration) -> Comparison:
        """First minus second configuration, paired by image; Holm-corrected over all pairs of the board.

        Most pairs of a report are chosen by their scores (the best decoder of a layer, the winner), so that they are
        corrected for all that could have been chosen.
        """
        return self._pairs.get(a.label, b.label)

    @cached_property
    def _trainings(self) -> AllPairs:
        return AllPairs({item.label: item.psnr for item in self.configurations})

    def compare_trainings(self, a: Configuration, b: Configuration) -> Comparison:
        """The same for the trained networks alone, by the images; corrected for all pairs of the board, too."""
        return self._trainings.get(a.label, b.label)

    def compare_alone(self, a: Configuration, b: Configuration) -> Comparison:
        """The same, not corrected: for pairs that were fixed before the scores were seen."""
        return compare_pools(a.psnr, b.psnr, self.noise)

    @cached_property
    def over_floors(self) -> dict[tuple[str, str], Comparison]:
        """Each configuration minus each of its floors, by label and the name in ``FLOORS``; one family."""
        return correct({(item.label, name): compare_pools(item.psnr, floor, self.noise)
                        for item in self.configurations for name in FLOORS if (floor := item.floor(name))})

    @cached_property
    def best_singles(self) -> dict[tuple[tuple[str, str], ...], Configuration]:
        """The best single model by validation PSNR of each set of other parameters."""
        groups = group_by(self.single, lambda item: item.settings)
        return {settings: best_of(items) for settings, items in groups.items()}

    def best_single(self, items: Iterable[Configuration]) -> Configuration | None:
        """The best single model of some configurations, by validation PSNR.

        By test PSNR if one has no validation PSNR. A reference that is chosen by its test scores would be too good.
        """
        single = [item for item in items if not item.is_ensemble]
        return best_of(single) if single else None


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Groups items, such as configurations, by a key, keeping their order."""
    found: dict[Key, list[Item]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def make_boards(runs: Iterable[ReportRun], seed_sd: float | None = None, tuned: Tuned | None = None) -> list[Board]:
    """Groups the scored runs into boards of comparable configurations, largest first.

    ``seed_sd`` is the standard deviation between trainings in dB; None to measure it on configurations with seeds. Of
    the ``tuned`` configurations, only the runs of the chosen values are on a board.

    Runs that were scored on different test images never share a board, whatever their digests say.
    """
    left, choices = choose(list(runs), tuned or {})
    scored = [run for run in left if run.is_scored]
    groups: dict[tuple[Group, frozenset[str]], list[ReportRun]] = {}
    for run, group in zip(scored, groups_of([run.document for run in scored]), strict=True):
        groups.setdefault((group, run.images), []).append(run)
    boards = [Board(group, _configurations(members, choices), seed_sd) for (group, _), members in groups.items()]
    return sorted(boards, key=lambda board: (-len(board.configurations), board.group))


def _configurations(runs: Sequence[ReportRun], choices: Mapping[str, Choice]) -> list[Configuration]:
    members: dict[str, dict[int, ReportRun]] = {}
    for run in runs:
        members.setdefault(identity_of(run.document), {})[run.parameters["seed"]] = run
    first = [next(iter(seeds.values())) for seeds in members.values()]
    labels = distinguished([plain_name(run.parameters) for run in first], [run.document for run in first])
    found = [Configuration(label, dict(sorted(seeds.items())), _choice(seeds.values(), choices))
             for label, seeds in zip(labels, members.values(), strict=True)]
    return sorted(found, key=lambda item: (-item.psnr.mean, item.label))


def _choice(runs: Iterable[ReportRun], choices: Mapping[str, Choice]) -> Choice | None:
    return next((choices[run.digest] for run in runs if run.digest and run.digest in choices), None)


def best_of(items: Sequence[Configuration]) -> Configuration:
    """The best of some configurations by validation PSNR; the first, if one has no validation PSNR."""
    return by_validation(items)[0]


def by_validation(items: Sequence[Configuration]) -> list[Configuration]:
    """Configurations by validation PSNR, best first; in their order, if one has no validation PSNR."""
    if any(item.best_validation is None for item in items):
        return list(items)
    return sorted(items, key=lambda item: -(item.best_validation or 0.0))
