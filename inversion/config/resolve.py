"""Resolution of a configuration to a plan: checks every name and replaces each ``auto`` by a value.

All cheap checks are here, before anything is downloaded, decoded or built. ``check`` does not need PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from inversion.config.parts import pinned, short_names
from inversion.config.run_config import ADDED, MOST_THREADS, RunConfig, format_options, parse_options
from inversion.data.datasets import data_folder, find_photo_set, require_data, resolve_auto
from inversion.data.div2k import in_protocol
from inversion.data.splits import PhotoSet
from inversion.errors import FallbackRefusedError, RequestError
from inversion.losses.lpips_weights import TrunkSource, find_trunk, require_trunk_file
from inversion.losses.vgg_weights import absolute_vgg, require_vgg
from inversion.models.decoders import decoders, options_type, parse_decoder_options
from inversion.models.encoders._notation import split_request
from inversion.models.encoders.catalog import (
    ENSEMBLE,
    EncoderCut,
    outside_encoders,
    parse_encoders,
    without_repetition,
)
from inversion.models.encoders.imagenet import imagenet_status, require_imagenet
from inversion.models.encoders.weights import WeightsSource, find_file, parse_weights, with_part
from inversion.models.fusion import fusions
from inversion.models.fusion import options_type as fusion_options_type
from inversion.models.options import parse_part_options
from inversion.parallel import usable_cores
from inversion.progress import Progress, no_progress

RECIPE = 2
"""Version of the training recipe, part of every digest: increment it when equal parameters give other numbers."""

NOT_SCIENTIFIC = frozenset({"data_dir", "device", "threads", "strict", "data", "weights", "lpips_weights",
                            "vgg_weights"})
"""Parameters that are not part of the digest: where a run happens, inputs that it identifies by content, and what only
adds scores."""


@dataclass(frozen=True)
class Fallback:
    """A substitute that ``auto`` chose because something was unavailable: its name, and how to get the original."""

    short: str
    remedy: str


def digest_of(identity: Mapping[str, Any]) -> str:
    """The digest, 32 hexadecimal digits, of a run's identity.

    A parameter that was added later is left out at the value that describes earlier runs.
    """
    neutral = {name: value for added in ADDED.values() for name, value in added.items()}
    parameters = {name: value for name, value in identity["parameters"].items()
                  if name not in neutral or value != neutral[name]}
    counted = {**identity, "parameters": parameters}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Plan:
    """A run with all parameters resolved, and the sources of its inputs."""

    config: RunConfig
    cuts: tuple[EncoderCut, ...]
    weights: dict[str, WeightsSource]
    photos: PhotoSet
    data_dir: Path
    lpips: TrunkSource | None
    fallbacks: list[Fallback] = field(default_factory=list)

    @property
    def options(self) -> dict[str, str]:
        """The decoder options that were set."""
        return parse_options(self.config.decoder_options)

    @property
    def fusion_options(self) -> dict[str, str]:
        """The fusion options that were set."""
        return parse_options(self.config.fusion_options, "fusion_options")

    @property
    def name(self) -> str:
        """The run's name: ``vgg16:block1+wavelet``, with a seed other than 0 and fallbacks."""
        return run_name(self.config, self.fallbacks)

    def identity(self, data_digest: str) -> dict[str, Any]:
        """Everything that decides the run's numbers, as plain data."""
        parameters = self.config.model_dump()
        return {
            "recipe": RECIPE,
            "parameters": {name: value for name, value in parameters.items() if name not in NOT_SCIENTIFIC},
            "data": data_digest,
            "weights": {name: source.identity() for name, source in sorted(self.weights.items())},
            "lpips": self.lpips.identity() if self.lpips else None,
        }

    def digest(self, data_digest: str) -> str:
        """The digest of ``identity``: equal for two runs if they would give the same numbers."""
        return digest_of(self.identity(data_digest))


def check(config: RunConfig) -> RunConfig:
    """Checks all names, without PyTorch, and returns the configuration with full names (``vgg16`` → ``vgg16:block1``).

    Parts from outside this package are found and not executed: their options, and the layers of an encoder, are checked
    when they are built (``runs.prepare.check_parts``), as are metrics and losses.
    ``timm/NAME`` is looked up in timm, whose import takes seconds. A checked configuration is returned unchanged.

    Raises:
        UnknownNameError: unknown encoder, layer, modifier, decoder, fusion, metric, loss or option of a part.
        RequestError: an invalid combination.
    """
    cuts = parse_encoders(config.encoder, "auto" if _layer_is_in_encoder(config) else config.layer)
    for cut in cuts:
        if cut.encoder in outside_encoders:
            outside_encoders.full_name(cut.encoder)  # raises if its file or package is not here
        elif cut.modifiers:
            cut.shape(config.image_size)  # raises if a modifier does not fit the layer
    decoder = decoders.full_name(config.decoder)
    if (options := parse_options(config.decoder_options)) and not decoders.is_outside(decoder):
        parse_decoder_options(decoder, options_type(decoder), options)
    fusion, fusion_options = config.fusion, parse_options(config.fusion_options, "fusion_options")
    if len(cuts) == 1:
        if fusion not in ("auto", "none"):
            raise RequestError(f"fusion={fusion} needs two encoders or more, and encoder={config.encoder} is one. "
                               f"Leave fusion out, or give several as encoder=vgg16:block1+resnet34:layer1.")
        if fusion_options:
            raise RequestError(f"fusion_options={config.fusion_options} needs a fusion, so two encoders or more, and "
                               f"encoder={config.encoder} is one. Leave fusion_options out.")
        fusion = "none"
    else:
        fusion = "weighted" if fusion == "auto" else fusion
        fusion = fusions.full_name(fusion)
        if fusion_options and not fusions.is_outside(fusion):
            parse_part_options("fusion", fusion, fusion_options_type(fusion), fusion_options)
    if config.loss == "none" and config.loss_weight != RunConfig.model_fields["loss_weight"].default:
        raise RequestError(f"loss_weight={config.loss_weight:g} is the weight of a loss of your own: give loss, as "
                           "my_loss.py:MyLoss. The weights of MSE and LPIPS are mse_weight and lpips_weight.")
    return config.model_copy(update={
        "encoder": "+".join(map(str, cuts)), "layer": cuts[0].layer if len(cuts) == 1 else "none", "decoder": decoder,
        "fusion": fusion, "metrics": pinned("metrics", config.metrics), "loss": pinned("loss", config.loss),
        "decoder_options": format_options(options), "fusion_options": format_options(fusion_options),
    })


def check_inputs(config: RunConfig) -> None:
    """Checks that the files and folders of a checked configuration exist.

    Reads no files and sends no requests, so that it can run before PyTorch is imported; ``resolve`` checks further.

    Raises:
        UnknownNameError: ``data`` is neither a known name nor a folder.
        DataError: the photographs are missing.
        WeightsError: a weights file is missing, or an encoder has none.
    """
    for check_input in input_checks(config):
        check_input()


def input_checks(config: RunConfig) -> list[partial[Any]]:
    """The checks of ``check_inputs``, one function per input."""
    weights: list[partial[Any]] = [partial(parse_weights, config.weights, parse_encoders(config.encoder))]
    return [partial(require_data, config.data, data_folder(config.data_dir)),
            *(weights if config.weights != "auto" else []),
            partial(require_trunk_file, config.lpips_weights), partial(require_vgg, config.vgg_weights)]


def _layer_is_in_encoder(config: RunConfig) -> bool:
    """Whether ``layer`` only repeats ``encoder``, as in a configuration that ``check`` returned."""
    return config.layer == ("none" if "+" in config.encoder else split_request(config.encoder).layer)


def resolve(
    config: RunConfig,
    progress: Progress = no_progress,
    inherited: Sequence[Fallback] = (),
    find: Callable[[str, Path, Progress], PhotoSet] = find_photo_set,
) -> Plan:
    """Resolves a configuration: locates data and weights, chooses device, precision and number of threads.

    Args:
        config: the configuration, checked or not.
        progress: called while photographs are hashed.
        inherited: the fallbacks of a run that is resumed, whose configuration no longer contains ``auto``.
        find: replaces ``find_photo_set``, for instance by a cached one.

    Raises:
        RequestError: the run is not possible; with ``strict``, also if there is a fallback.
    """
    config = check(config)  # idempotent: commands and specs have checked already, resumed runs have not
    cuts = parse_encoders(config.encoder)
    data_dir = data_folder(config.data_dir)
    fallbacks = list(inherited)
    data = _resolve_data(config, data_dir, fallbacks)
    weights = _resolve_weights(config, cuts, fallbacks)
    sources = parse_weights(weights, cuts)
    for cut in cuts:
        if sources[cut.encoder].kind == "imagenet":
            require_imagenet(cut)
    lpips = _resolve_lpips(config, fallbacks)
    if config.strict and fallbacks:
        raise FallbackRefusedError("strict=true refuses " + "; ".join(f"{f.short} ({f.remedy})" for f in fallbacks))
    engine = _resolve_engine(config)
    photos = in_protocol(find(data, data_dir, progress), config.protocol)
    config = config.model_copy(update={
        "data": photos.data,
        "data_dir": str(data_dir), "weights": _with_absolute_paths(weights, sources),
        "lpips_weights": str(lpips) if lpips else "off",
        "lpips_weight": config.lpips_weight if lpips else 0.0, "vgg_weights": absolute_vgg(config.vgg_weights),
        **engine,
    })
    if config.objective_is_empty():
        raise RequestError("mse_weight is 0 and LPIPS is off: there is nothing to train for. Give lpips_weights=FILE.")
    return Plan(config, cuts, sources, photos, data_dir, lpips, fallbacks)


def run_name(config: RunConfig, fallbacks: list[Fallback]) -> str:
    """A readable name of a run, from its checked configuration."""
    encoder = "ensemble" if config.encoder == "+".join(map(str, ENSEMBLE)) else without_repetition(config.encoder)
    fusion = [config.fusion] if config.fusion != "none" else []
    name = "+".join(map(short_names, [encoder, *fusion, config.decoder]))
    if config.seed:
        name += f" seed={config.seed}"
    if fallbacks:
        name += f" ({', '.join(fallback.short for fallback in fallbacks)})"
    return name


def _resolve_data(config: RunConfig, data_dir: Path, fallbacks: list[Fallback]) -> str:
    if config.data != "auto":
        return config.data
    data = resolve_auto(data_dir)
    if data == "sample":
        fallbacks.append(Fallback("sample photographs", "get DIV2K with: inversion data div2k"))
    return data


def _resolve_weights(config: RunConfig, cuts: tuple[EncoderCut, ...], fallbacks: list[Fallback]) -> str:
    if config.weights != "auto":
        return config.weights
    absent = [cut.encoder for cut in cuts if imagenet_status(cut) == "unreachable"]
    if not absent:
        return "imagenet"
    fallbacks.append(Fallback("random weights", f"ImageNet weights of {', '.join(absent)} are neither cached nor "
                              "reachable: connect once, or give weights=FILE"))
    return "random"


def _with_absolute_paths(text: str, sources: dict[str, WeightsSource]) -> str:
    """The parameter ``weights`` with absolute paths, since a run may be resumed from another folder."""
    if all(source.path is None for source in sources.values()):
        return text
    if found := find_file(text):
        path, part = found
        return with_part(path.resolve(), part)
    path = Path(os.path.expanduser(text))
    if os.path.exists(path):
        return str(path.resolve())
    return ",".join(f"{name}={source}" for name, source in sources.items())


def _resolve_lpips(config: RunConfig, fallbacks: list[Fallback]) -> TrunkSource | None:
    lpips = find_trunk(config.lpips_weights)
    if lpips is None and config.lpips_weights == "auto" and config.lpips_weight:
        fallbacks.append(Fallback("no LPIPS", "AlexNet's weights are neither cached nor reachable: connect once, "
                                  "or give lpips_weights=FILE"))
    return lpips


def default_threads(workers: int = 1) -> int:
    """CPU threads of a run with ``threads=0``: the cores available to this process, divided among workers."""
    return min(max(1, usable_cores() // workers), MOST_THREADS)


def _resolve_engine(config: RunConfig) -> dict[str, Any]:
    from inversion.config.device import choose_device, choose_precision

    device = choose_device(config.device)
    return {"device": device, "precision": choose_precision(config.precision, device),
            "threads": config.threads or default_threads()}
