"""How often are the report's verdicts wrong, and how often do they find what is there?

Studies of configurations that are equal but for chance are made over and over, and judged as a report judges them,
beside the same judged by images alone, as if training were not random. An error is a study with at least one difference
that "holds up". Power is the share of comparisons that find one configuration that is truly better.

A second table is of studies where some configurations have fewer seeds than the others, and are noisier or not: once
with what is allowed for them (``SeedNoise.has_few_seeds``), and once without.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import click
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table

from inversion.report.stats.comparisons import AllPairs, Comparison, compare_pools, correct, holds_up, trainings_differ
from inversion.report.stats.pools import SeedPool
from inversion.report.stats.seed_noise import SeedNoise, measure_seed_noise

Array = npt.NDArray[np.float64]
Pools = dict[str, SeedPool]


@dataclass(frozen=True)
class Setting:
    """A kind of study: number of configurations and of seeds, and the noise between trainings in dB.

    The first ``few`` configurations have ``few_seeds`` seeds and ``noisier`` times the noise of the others.
    """

    configurations: int
    seeds: int
    seed_sd: float
    unequal: bool = False
    images: int = 100
    image_sd: float = 0.3
    few: int = 0
    few_seeds: int = 1
    noisier: float = 1.0

    def draw(self, generator: np.random.Generator, gain: float = 0.0) -> Pools:
        """One study; its first configuration is better by ``gain``."""
        count = self.configurations
        noise = generator.uniform(0.5, 1.5, count) * self.seed_sd if self.unequal else np.full(count, self.seed_sd)
        noise[:self.few] *= self.noisier
        scores = 17 + generator.normal(0, 2, (self.images, 1, 1))
        scores = scores + generator.normal(0, self.image_sd / math.sqrt(2), (self.images, count, 1))
        scores = scores + generator.normal(0, 1, (1, count, self.seeds)) * noise[None, :, None]
        scores[:, 0] += gain
        names = [f"{number:04}" for number in range(self.images)]
        seeds = [self.few_seeds if number < self.few else self.seeds for number in range(count)]
        return {f"c{number}": SeedPool(pd.DataFrame(scores[:, number, :seeds[number]], names, range(seeds[number])))
                for number in range(count)}

    def noise(self, pools: Pools) -> SeedNoise:
        """Measured; with one seed of each, given."""
        return measure_seed_noise(pools.values()) or SeedNoise(self.seed_sd)


def planned(pools: Pools, noise: SeedNoise | None) -> list[Comparison]:
    """The first configuration with each other one: a family that was fixed before the scores were seen."""
    return list(correct({name: compare_pools(pools["c0"], pool, noise)
                         for name, pool in pools.items() if name != "c0"}).values())


def chosen(pools: Pools, noise: SeedNoise | None) -> list[Comparison]:
    """The best with each other one, corrected for all pairs."""
    winner = max(pools, key=lambda name: pools[name].mean)
    pairs = AllPairs(pools, noise)
    return [pairs.get(winner, name) for name in pools if name != winner]


def rates(setting: Setting, studies: int, gain: float, seed: int) -> Iterator[float]:
    """Errors by images alone, errors planned, errors chosen; power planned, power chosen."""
    generator = np.random.default_rng([seed, setting.configurations, setting.seeds, setting.unequal])
    found = np.zeros(5)
    for _ in range(studies):
        equal = setting.draw(generator)
        noise = setting.noise(equal)
        better = setting.draw(generator, gain)
        known = setting.noise(better)
        pairs = AllPairs(better, known)
        found += np.array([
            any(map(trainings_differ, planned(equal, None))), any(map(holds_up, planned(equal, noise))),
            any(map(holds_up, chosen(equal, noise))), np.mean([*map(holds_up, planned(better, known))]),
            np.mean([holds_up(pairs.get("c0", name)) for name in better if name != "c0"])])
    yield from found / studies


def rates_with_few_seeds(setting: Setting, studies: int, gain: float) -> Iterator[float]:
    """Errors and power, planned and chosen each, first without and then with what is allowed for few seeds."""
    generator = np.random.default_rng([setting.configurations, setting.few, setting.few_seeds, round(setting.noisier)])
    found = np.zeros((2, 4))
    for _ in range(studies):
        equal, better = setting.draw(generator), setting.draw(generator, gain)
        for row, is_allowed in zip(found, (False, True), strict=True):
            noises = [setting.noise(pools) for pools in (equal, better)]
            noise, known = noises if is_allowed else [replace(each, seeds=0) for each in noises]
            pairs = AllPairs(better, known)
            row += np.array([
                any(map(holds_up, planned(equal, noise))), any(map(holds_up, chosen(equal, noise))),
                np.mean([*map(holds_up, planned(better, known))]),
                np.mean([holds_up(pairs.get("c0", name)) for name in better if name != "c0"])])
    yield from found.ravel() / studies


@click.command()
@click.option("--studies", default=200, show_default=True, help="Studies of each kind.")
@click.option("--seed-sd", default=0.15, show_default=True, help="Standard deviation between trainings in dB.")
@click.option("--gain", default=0.4, show_default=True, help="How much better one configuration is, in dB.")
def cli(studies: int, seed_sd: float, gain: float) -> None:
    """Print the error rates and the power of the report's verdicts for studies of several sizes."""
    console = Console()
    settings = [Setting(count + 1, seeds, seed_sd, unequal) for unequal in (False, True) for count in (3, 31, 43)
                for seeds in (1, 2, 3, 5)]
    table = Table(title=f"{studies} studies each, 100 images, 0.3 dB between images, {seed_sd} dB between trainings",
                  box=None, padding=(0, 2, 0, 0))
    for title in ("comparisons", "seeds", "noise of configurations", "errors: images alone", "planned", "chosen",
                  f"power at {gain} dB: planned", "chosen"):
        table.add_column(title, justify="right")
    for number, setting in enumerate(track(settings, console=console, transient=True)):
        shown = [f"{100 * rate:.1f} %" for rate in rates(setting, studies, gain, number)]
        table.add_row(str(setting.configurations - 1), str(setting.seeds), "unequal" if setting.unequal else "equal",
                      *shown)
    console.print(table)
    few = [Setting(13, seeds, seed_sd, few=count, few_seeds=fewer, noisier=noisier)
           for seeds, fewer, count in ((4, 1, 6), (3, 1, 1), (3, 2, 1), (5, 2, 6)) for noisier in (1.0, 2.0)]
    table = Table(title="13 configurations, some of them with fewer seeds: without and with what is allowed for these",
                  box=None, padding=(0, 2, 0, 0))
    for title in ("fewer seeds", "their noise", "errors: planned", "chosen", f"power at {gain} dB: planned", "chosen",
                  "allowed for, errors: planned", "chosen", "power: planned", "chosen"):
        table.add_column(title, justify="right")
    for setting in track(few, console=console, transient=True):
        shown = [f"{100 * rate:.1f} %" for rate in rates_with_few_seeds(setting, studies, gain)]
        table.add_row(f"{setting.few} with {setting.few_seeds}, others {setting.seeds}", f"{setting.noisier:g} times",
                      *shown)
    console.print(table)


if __name__ == "__main__":
    cli()
