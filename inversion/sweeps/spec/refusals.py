"""What a real run of a spec would refuse on this machine, found without PyTorch and without downloading anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from inversion.config.resolve import input_checks
from inversion.config.run_config import RunConfig
from inversion.data.datasets import data_folder, resolve_auto
from inversion.errors import FallbackRefusedError, RequestError
from inversion.losses.lpips_weights import find_trunk
from inversion.models.encoders.catalog import EncoderCut, parse_encoders
from inversion.models.encoders.imagenet import require_imagenet
from inversion.sweeps.spec.source import ErrorCollector
from inversion.sweeps.spec.spec import Spec

THREADS = 8
"""Servers that do not answer are waited for at the same time, for a few seconds."""


def refusals(spec: Spec) -> list[str]:
    """A line for each input that is missing: folders, files, DIV2K, weights that are neither cached nor reachable."""
    errors = ErrorCollector()

    def attempt(check: Callable[[], object]) -> RequestError | None:
        try:
            check()
        except RequestError as error:
            return error
        return None

    with ThreadPoolExecutor(THREADS) as pool:
        for error in filter(None, pool.map(attempt, _checks(spec.configs))):
            with errors.collect():
                raise error
    return errors.lines


def _checks(configs: Iterable[RunConfig]) -> list[Callable[[], object]]:
    """One function for each distinct input."""
    distinct = {(config.encoder, config.weights, config.lpips_weights, bool(config.lpips_weight), config.data,
                 config.data_dir, config.strict): config for config in configs}
    checks: dict[tuple[object, ...], Callable[[], object]] = {}
    for config in distinct.values():
        for check in input_checks(config):
            checks.setdefault((check.func, *map(str, check.args)), check)
        if config.weights == "imagenet" or (config.weights == "auto" and config.strict):
            for cut in parse_encoders(config.encoder):
                checks.setdefault(("imagenet", cut.encoder), partial(_require_imagenet, cut, config.weights))
        checks.setdefault(("lpips", config.lpips_weights, bool(config.lpips_weight), config.strict),
                          partial(_require_trunk, config))
        if config.data == "auto" and config.strict:
            checks.setdefault(("data", config.data_dir), partial(_require_div2k, config))
    return list(checks.values())


def _require_imagenet(cut: EncoderCut, weights: str) -> None:
    try:
        require_imagenet(cut)
    except RequestError as error:
        if weights == "auto":
            raise FallbackRefusedError(f"strict=true allows no random weights in their place: {error}") from error
        raise


def _require_trunk(config: RunConfig) -> None:
    found = find_trunk(config.lpips_weights)
    if found is None and config.lpips_weights == "auto" and config.lpips_weight and config.strict:
        raise FallbackRefusedError("strict=true does not leave out LPIPS, and AlexNet's weights are neither "
                                   "cached nor reachable: give lpips_weights=FILE, or off")


def _require_div2k(config: RunConfig) -> None:
    if resolve_auto(data_folder(config.data_dir)) == "sample":
        raise FallbackRefusedError("strict=true allows no sample photographs in place of DIV2K: get it with inversion "
                                   "data div2k, or give data=sample")
