"""Resolves a spec into runs to queue: every ``auto`` is resolved once and every input found before anything starts."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from inversion.config.document import VERSION
from inversion.config.parts import OUTSIDE, pinned
from inversion.config.resolve import Plan, digest_of, resolve
from inversion.config.run_config import RunConfig
from inversion.data.cache import PhotoCache, load_cached
from inversion.data.datasets import cache_folder, data_folder, find_photo_set
from inversion.data.div2k import in_protocol
from inversion.data.duplicates import across_splits
from inversion.data.splits import PhotoSet
from inversion.errors import RequestError
from inversion.losses.lpips_weights import find_trunk
from inversion.models.encoders.catalog import parse_encoders
from inversion.models.encoders.imagenet import require_imagenet
from inversion.objectives import COMPARABLE
from inversion.progress import Progress
from inversion.runs.prepare import check_parts, check_weights
from inversion.sweeps.queue.pruning import Competitor
from inversion.sweeps.queue.queue import Queued
from inversion.sweeps.queue.tuning import TunedRun
from inversion.sweeps.spec.grid import Configuration
from inversion.sweeps.spec.source import ErrorCollector
from inversion.sweeps.spec.spec import InputErrors, Spec

ONE_GPU = ("auto", "cpu", "cuda", "cuda:0")
"""Devices of a worker, which sees one GPU."""

RESOLVED = ("data", "weights", "lpips_weights", "vgg_weights", "precision", "threads")
"""Parameters of a search that are resolved once, when it is queued."""

_logger = logging.getLogger(__name__)


class Resolver:
    """Resolves the runs of a spec; data sets that they share are found and read once.

    ``threads`` is what a run gets that leaves them open.
    """

    def __init__(self, progress: Progress, threads: int) -> None:
        self.progress = progress
        self.threads = threads
        self._logged: set[tuple[Path, str]] = set()
        self._find = functools.cache(self._find_now)
        self._load: Callable[..., PhotoCache] = functools.cache(self._load_now)

    def queued(self, config: RunConfig, tuned: Sequence[str] = ()) -> Queued:
        """One run, ready to be queued; ``tuned`` are the parameters that are tuned for its configuration.

        Raises:
            RequestError: it cannot be run, or not without a fallback where it is strict.
        """
        plan = self.plan(config)
        identity = plan.identity(self.photographs(plan).digest)
        return Queued(plan.name, portable(plan.config, config), digest_of(identity),
                      [dataclasses.asdict(fallback) for fallback in plan.fallbacks],
                      _tuned_run(identity, tuned) if tuned else None, competitor=_competitor(plan.config, identity))

    def plan(self, config: RunConfig) -> Plan:
        """A resolved run, with its weights checked. The number of threads is fixed here for all workers.

        Raises:
            RequestError: it cannot be run, or asks for a GPU that no worker has.
        """
        if config.device not in ONE_GPU:
            raise RequestError(f"device={config.device}: each worker has one GPU, which is its cuda:0. Choose the GPUs "
                               "of a study with CUDA_VISIBLE_DEVICES.")
        if config.threads == 0:
            config = config.model_copy(update={"threads": self.threads})
        plan = resolve(config, self.progress, find=lambda data, folder, _: self._find(data, folder))
        check_parts(plan)
        check_weights(plan)
        return plan

    def require_inputs(self, configs: Iterable[RunConfig]) -> None:
        """Looks for all data sets and weights, so that everything missing is reported at once.

        Raises:
            SeveralErrors: some are missing.
        """
        errors = InputErrors()
        data = {(config.data, config.data_dir) for config in configs if config.data != "auto"}
        imagenet = {cut.encoder: cut for config in configs if config.weights == "imagenet"
                    for cut in parse_encoders(config.encoder)}
        trunks = {config.lpips_weights for config in configs}
        calls: list[Callable[[], object]] = [
            *(partial(self._find, name, data_folder(folder)) for name, folder in sorted(data)),
            *(partial(require_imagenet, cut) for cut in imagenet.values()),
            *(partial(find_trunk, trunk) for trunk in sorted(trunks)),
        ]
        for call in calls:
            with errors.collect():
                call()
        errors.raise_if_any()

    def photographs(self, plan: Plan) -> PhotoCache:
        """The run's images, decoded now if they are not cached."""
        config = plan.config
        limits = (("train", config.train_limit), ("val", config.val_limit), ("test", config.test_limit))
        return self._load(config.data, plan.data_dir, config.protocol, config.image_size, limits)

    def _find_now(self, data: str, data_dir: Path) -> PhotoSet:
        photos = find_photo_set(data, data_dir, self.progress)
        self._log(photos, [*photos.remarks, *photos.warnings])
        return photos

    def _load_now(self, data: str, data_dir: Path, protocol: str, size: int, limits: Iterable[tuple[str, int]],
                  ) -> PhotoCache:
        photos: PhotoSet = in_protocol(self._find(data, data_dir), protocol)
        cache = load_cached(photos, size, cache_folder(data_dir), self.progress, dict(limits))
        self._log(photos, across_splits(cache, self.progress))
        return cache

    def _log(self, photos: PhotoSet, lines: Iterable[str]) -> None:
        """Logs each warning about a data set once, not once per run or per name of the set in the spec."""
        for line in lines:
            if (photos.root.resolve(), line) not in self._logged:
                self._logged.add((photos.root.resolve(), line))
                _logger.warning("data %s: %s", photos.name, line)


def _tuned_run(identity: Mapping[str, Any], tuned: Sequence[str]) -> TunedRun:
    """The place of a run in the tuning of its configuration, from all that decides its numbers."""
    return TunedRun(_digest_without(identity, "seed", *tuned), _digest_without(identity, "seed"),
                    identity["parameters"]["seed"])


def _competitor(config: RunConfig, identity: Mapping[str, Any]) -> Competitor:
    """The place of a run among those of its grid. Images are compared by content, and weights by what was asked for, as
    encoders have weights of their own.
    """
    asked = config.model_dump(include={*COMPARABLE, "epochs"} - {"data"})
    return Competitor(digest_of({"parameters": asked, "data": identity["data"]}), _digest_without(identity, "seed"))


def _digest_without(identity: Mapping[str, Any], *names: str) -> str:
    """The digest of a run without some of its parameters."""
    left = {name: value for name, value in identity["parameters"].items() if name not in names}
    return digest_of({**identity, "parameters": left})


def portable(resolved: RunConfig, asked: RunConfig) -> dict[str, Any]:
    """A resolved configuration for any machine: with the requested device and data folder, not the resolved ones."""
    return resolved.model_copy(update={"device": asked.device, "data_dir": asked.data_dir}).model_dump()


def resolve_grid(spec: Spec, resolver: Resolver, progress: Progress) -> list[Queued]:
    """Every run of a grid, ready to be queued.

    Raises:
        SeveralErrors: all problems, each once.
    """
    resolver.require_inputs(spec.configs)
    runs: list[Queued] = []
    errors = InputErrors()
    first: dict[str | None, Configuration] = {}
    for number, configuration in enumerate(spec.configurations, start=1):
        with errors.collect():
            run = resolver.queued(configuration.config, spec.tuned)
            runs.append(dataclasses.replace(run, priority=configuration.priority))
            if (other := first.setdefault(run.digest, configuration)) is not configuration:
                _add_duplicate(configuration, other, errors)
        progress("resolving", number, len(spec.configurations))
    errors.raise_if_any()
    return runs


def resolve_search(spec: Spec, resolver: Resolver) -> dict[str, Any]:
    """What the trials of a search share: resolved parameters, fallbacks and the digest of the images.

    Raises:
        SeveralErrors: all problems, each once.
    """
    resolver.require_inputs(spec.configs)
    plans, errors = [], InputErrors()
    for config in spec.configs:
        with errors.collect():
            plans.append(resolver.plan(config))
    errors.raise_if_any()
    plan = max(plans, key=lambda plan: len(plan.fallbacks))  # weights missing for one run are missing for all
    space = spec.search.space if spec.search else {}
    shared = {name: str(plan.config.model_dump()[name]) for name in RESOLVED if name not in space}
    shared |= {name: pinned(name, text) for name, text in spec.base.items() if name in OUTSIDE}
    return {"version": VERSION, "config": {**spec.base, **shared}, "data": resolver.photographs(plan).digest,
            "fallbacks": [dataclasses.asdict(fallback) for fallback in plan.fallbacks]}


def _add_duplicate(here: Configuration, there: Configuration, errors: ErrorCollector) -> None:
    """Adds an error for two configurations that resolve to the same run, naming the values that differ in the spec."""
    values, others = here.config.model_dump(), there.config.model_dump()
    changed = [name for name in values if values[name] != others[name]]
    text, other = (", ".join(f"{name}={side[name]}" for name in changed) for side in (values, others))
    errors.add(here.where, f"{text} gives the same run as {other} ({there.where})")
