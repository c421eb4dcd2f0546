"""Single values of run parameters: is one valid on its own, how is it shown, which runs does it choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from inversion.config.resolve import check
from inversion.config.run_config import RunConfig, parse_config, parse_options, parse_value
from inversion.errors import RequestError
from inversion.models.decoders import decoders
from inversion.models.encoders.catalog import ENSEMBLE, encoder_spec, parse_encoders
from inversion.models.fusion import fusions

_ENSEMBLE = "+".join(map(str, ENSEMBLE))


def check_value(name: str, text: str) -> None:
    """Whether a parameter could have this value in some run.

    Raises:
        UnknownNameError: a parameter, encoder, layer, decoder or fusion that does not exist.
        RequestError: a value that is missing, of the wrong type or out of range.
    """
    if not text.strip():
        auto = ", or write auto" if name in RunConfig.model_fields and default(name) == "auto" else ""
        raise RequestError(f"{name} has no value: leave it out{auto}")
    value = parse_value(name, text)
    if name == "encoder":
        parse_encoders(value)
    elif name == "decoder":
        decoders.check(value)
    elif name == "fusion" and value not in ("auto", "none"):
        fusions.check(value)
    elif name == "decoder_options":
        parse_options(value)


def checked(values: Mapping[str, Any]) -> RunConfig:
    """The configuration of these parameters under full names; raises RequestError."""
    return check(parse_config(values))


def default(name: str) -> Any:
    """A parameter's default."""
    return RunConfig.model_fields[name].default


def shown(config: RunConfig, name: str) -> str:
    """A parameter of a checked configuration as short text; the long name of the study's ensemble is ``ensemble``."""
    value = getattr(config, name)
    if name == "encoder" and value == _ENSEMBLE:
        return "ensemble"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def chooses(name: str, text: str) -> Callable[[RunConfig], bool]:
    """A test of checked configurations: has the parameter this value? An encoder without layer means all its layers.

    Raises:
        RequestError: no run can have such a value.
    """
    value = parse_value(name, text)
    if name == "encoder":
        if value != "ensemble" and not set(value) & set(":+"):
            alone = encoder_spec(value).name
            return lambda config: config.encoder.startswith(f"{alone}:") and "+" not in config.encoder
        value = "+".join(map(str, parse_encoders(value)))
    elif name == "decoder_options":
        value = ",".join(f"{option}={given}" for option, given in sorted(parse_options(value).items())) or "auto"
    return lambda config: bool(getattr(config, name) == value)


def values_of(name: str, configs: Iterable[RunConfig]) -> list[str]:
    """What can be chosen of a parameter among configurations, in their order."""
    found: dict[str, None] = {}
    for config in configs:
        text = shown(config, name)
        if name == "encoder" and "+" not in config.encoder:
            found[text.partition(":")[0]] = None
        found[text] = None
    return list(found)


def run_identity(config: RunConfig) -> tuple[Any, ...]:
    """Equal for two checked configurations that ask for the same run.

    Threads, strictness and the number of the GPU change no result, and without LPIPS its weight has no effect.
    """
    values = config.model_dump(exclude={"threads", "strict"})
    values["device"] = config.device.partition(":")[0]
    if config.lpips_weights == "off":
        values["lpips_weight"] = 0.0
    return tuple(values.values())
