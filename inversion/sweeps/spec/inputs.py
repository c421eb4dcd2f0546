"""Whether what a spec names is there, asked before anything slow is imported, and how it is told that it is not."""

from __future__ import annotations

from inversion.config.resolve import input_checks
from inversion.config.run_config import RunConfig
from inversion.errors import DataError, FallbackRefusedError, WeightsError
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.search import Search
from inversion.sweeps.spec.spec import Spec

OFFLINE = ("nothing was queued. Without any download: inversion-sweep smoke.yaml, or this study on "
           "the bundled photographs with --set data=sample --set weights=random --set lpips_weights=off")
"""What to run instead, when weights or photographs are out of reach."""


def require_inputs(spec: Spec) -> None:
    """Looks whether every folder and file that a spec names is there; each is looked for once.

    What would have to be downloaded (DIV2K, ImageNet weights) is looked for later, all of it at once.

    Raises:
        SeveralErrors: some are not.
    """
    configs = search_configs(spec.search, spec.base) if spec.search else [each.config for each in spec.configurations]
    problems = Problems()
    distinct = {(config.encoder, config.weights, config.lpips_weights, config.data, config.data_dir): config
                for config in configs}
    for config in distinct.values():
        if config.data == "div2k":
            config = config.model_copy(update={"data": "auto"})
        for look in input_checks(config):
            with problems.told():
                look()
    raise_any(problems)


def search_configs(search: Search, base: dict[str, str]) -> list[RunConfig]:
    """A run of a search for each encoder that it may try."""
    first = search.ends()
    encoders = search.space["encoder"].ends() if "encoder" in search.space else [None]
    return [search.configure(base, first | ({"encoder": encoder} if encoder else {})) for encoder in encoders]


def raise_any(problems: Problems) -> None:
    """Raises what was collected, with what to run instead where an input is out of reach.

    Raises:
        SeveralErrors: something was.
    """
    if any(isinstance(error, DataError | WeightsError | FallbackRefusedError) for error in problems.errors):
        problems.lines.append(OFFLINE)
    problems.raise_any()
