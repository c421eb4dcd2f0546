"""One configuration of a study with all its seeds: scores and costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from inversion.config.resolve import run_name
from inversion.config.run_config import RunConfig, parse_options
from inversion.metrics import EXACT_DB, METRICS, Metric, count_exact, counted, floor_column, own_metrics
from inversion.report.data.study import ReportRun
from inversion.report.data.tuning import Choice
from inversion.report.stats.pools import SeedPool, pool_seeds
from inversion.tracking.study import SIDE_BY_SIDE

CHOICES = frozenset({"encoder", "layer", "decoder", "fusion", "decoder_options", "fusion_options",
                     "seed"})
"""Parameters that the question tables vary; all others must be equal for two configurations to be compared there."""

ADDED_SCORES = "metrics"
"""Names further scores, and changes none of the others."""

PRECISION = "precision"
"""Changes the speed and hardly the scores: shown if it differs, but runs are ranked together."""

AUTO = "auto"
"""The options of a decoder or fusion that has none but its defaults."""

MEMORY = ("train_peak_memory_mb", "eval_peak_memory_mb")
"""Not comparable on a CPU, where they cover the whole process and all runs before, or for co-trained runs, where they
cover all runs that share an encoder pass."""


@dataclass(frozen=True, eq=False)
class Configuration:
    """One combination of encoder, layer, decoder, fusion and other parameters, with a run for each of its seeds."""

    label: str
    runs: Mapping[int, ReportRun]
    choice: Choice | None = None
    """How its tuned parameters were chosen; None if none was tuned."""

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """The resolved parameters of its first seed."""
        return next(iter(self.runs.values())).parameters

    @cached_property
    def plain(self) -> str:
        """The label without differing parameters: ``vgg16:block1+wavelet`` for ``vgg16:block1+wavelet lr=0.01``."""
        return plain_name(self.parameters)

    @property
    def encoder(self) -> str:
        """``vgg16:block1``, or several joined by ``+``."""
        return str(self.parameters["encoder"])

    @property
    def decoder(self) -> str:
        return str(self.parameters["decoder"])

    @property
    def fusion(self) -> str:
        return str(self.parameters["fusion"])

    @property
    def precision(self) -> str:
        return str(self.parameters[PRECISION])

    @property
    def is_ensemble(self) -> bool:
        return "+" in self.encoder

    @cached_property
    def settings(self) -> tuple[tuple[str, str], ...]:
        """Everything that determines the scores, except precision, tuned parameters and those in ``CHOICES``."""
        identity = next(iter(self.runs.values())).document["identity"]
        left_out = CHOICES | {PRECISION, ADDED_SCORES} | set(self.choice.names if self.choice else ())
        return tuple(sorted((name, str(value)) for name, value in identity["parameters"].items()
                            if name not in left_out))

    @cached_property
    def same_decoder(self) -> tuple[Any, ...]:
        """Equal for two configurations that differ only in the encoder."""
        return self.decoder, str(self.parameters["decoder_options"]), self.settings

    @cached_property
    def design(self) -> tuple[str, str]:
        """The decoder, and its option ``design``: equal for two decoders that differ in size only."""
        options = parse_options(str(self.parameters["decoder_options"]))
        return self.decoder, options.get("design", "default")

    @cached_property
    def options(self) -> str:
        """The options of its decoder and its fusion that are not the default: ``design=published``; empty if none."""
        mine = {"": self.parameters["decoder_options"], "fusion: ": self.parameters.get("fusion_options", AUTO)}
        return "; ".join(f"{part}{text}" for part, text in mine.items() if str(text) not in ("", AUTO))

    @cached_property
    def owns_memory(self) -> bool:
        """Whether all runs trained on a GPU and were not co-trained, so that their memory figures are their own."""
        return all(str(run.parameters["device"]).startswith("cuda") and SIDE_BY_SIDE not in run.tags
                   for run in self.runs.values())

    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics that its runs can have, by name: ours, and those of the user's own."""
        return {**METRICS, **{name: metric for run in self.runs.values()
                              for name, metric in own_metrics(run.document).items()}}

    def pool(self, metric: str) -> SeedPool | None:
        """Scores of every test image for each seed; None if the metric was not computed."""
        if metric not in self._pools:
            self._pools[metric] = self._pool(metric)
        return self._pools[metric]

    @cached_property
    def _pools(self) -> dict[str, SeedPool | None]:
        return {}

    def _pool(self, metric: str) -> SeedPool | None:
        series = {seed: run.scores.set_index("image")[metric] for seed, run in self.runs.items()
                  if run.scores is not None and metric in run.scores and np.isfinite(run.scores[metric]).all()}
        return pool_seeds(series) if series else None

    @cached_property
    def psnr(self) -> SeedPool:
        """PSNR of every test image for each seed, in dB."""
        pool = self.pool("psnr")
        assert pool is not None  # noqa: S101  boards contain scored runs only
        return pool

    def floor(self, name: str) -> SeedPool | None:
        """PSNR in dB of one of the ``FLOORS`` of every test image, which is the same for all seeds.

        None if no run has it, as those of earlier versions.
        """
        column = floor_column(name)
        for run in self.runs.values():
            if run.scores is not None and column in run.scores and run.scores[column].notna().all():
                scores = run.scores.set_index("image")[column].astype(float)
                return replace(pool_seeds({0: scores.clip(upper=EXACT_DB)}), is_trained=False)
        return None

    def mean(self, metric: str) -> float | None:
        """Mean over images and seeds."""
        pool = self.pool(metric)
        return pool.mean if pool else None

    def std(self, metric: str) -> float | None:
        """Standard deviation over the images (ddof 0), averaged over the seeds."""
        pool = self.pool(metric)
        return float(pool.values.std(axis=0).mean()) if pool else None

    def cost(self, metric: str) -> float | None:
        """A metric of the whole run (seconds, memory, parameters), averaged over the seeds."""
        values = [run.metrics[metric] for run in self.runs.values() if metric in run.metrics]
        known = [value for value in values if math.isfinite(value)]
        return sum(known) / len(known) if known else None

    @property
    def best_validation(self) -> float | None:
        """Validation PSNR at the best epoch, averaged over the seeds; None if it is missing for a seed."""
        values = counted([run.metrics.get("best/val_psnr", math.nan) for run in self.runs.values()])
        return float(values.mean()) if np.isfinite(values).all() else None

    @cached_property
    def exact(self) -> int:
        """Number of exact reconstructions of test images over all seeds; each counts as ``EXACT_DB``."""
        return count_exact(self.psnr.values)

    def own_cost(self, metric: str) -> float | None:
        """Like ``cost``, but None for memory that is not the run's own."""
        return None if metric in MEMORY and not self.owns_memory else self.cost(metric)


def plain_name(parameters: Mapping[str, Any]) -> str:
    """``vgg16:block1+wavelet``: a configuration's name without its seed."""
    known = {name: value for name, value in parameters.items() if name in RunConfig.model_fields}
    return run_name(RunConfig.model_construct(**{**known, "seed": 0}), [])  # may come from another version
