"""The parameters of ``inversion optimize``: those of a run that apply without a decoder, and its own.

``inversion.config.run_config`` defines and checks the former.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inversion.config.run_config import (
    Count,
    NonNegative,
    Positive,
    RunConfig,
    explain,
    parse_config,
    unknown_parameter,
)
from inversion.errors import RequestError

SHARED = ("encoder", "layer", "data", "data_dir", "weights", "lpips_weights", "vgg_weights", "protocol", "image_size",
          "batch_size", "test_limit", "seed", "device", "precision", "threads", "strict")
"""Parameters of a run with the same meaning here."""

DEFAULTS = {"batch_size": 8, "precision": "fp32"}
"""Defaults that differ from those of a run: the optimisation needs fp32 to resolve small differences of features."""


class OptimizeSettings(BaseModel):
    """The parameters that only the optimisation has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Count = Field(200, description="steps of the descent on each image")
    lr: Positive = Field(0.2, description="Adam's learning rate at the beginning, in units of the range [0, 1]; it "
                         "decays to 0")
    tv_weight: NonNegative = Field(3.0, description="weight of total variation beside the relative feature error, at "
                                   "the beginning; it decays to 0")


class OptimizeConfig(BaseModel):
    """A request. ``shared`` is the configuration of a run; only its parameters in ``SHARED`` are used."""

    model_config = ConfigDict(frozen=True)

    shared: RunConfig
    settings: OptimizeSettings

    def parameters(self) -> dict[str, Any]:
        """All parameters by name as they are logged, with ``method`` and ``decoder``."""
        run = self.shared.model_dump()
        return {"method": "optimize", "decoder": "none", **{name: run[name] for name in SHARED},
                **self.settings.model_dump()}


def parse_optimize_config(values: Mapping[str, Any]) -> OptimizeConfig:
    """Parses and checks a request from texts or typed values.

    Raises:
        UnknownNameError: the parameter does not exist.
        RequestError: a parameter of decoders, or a value of the wrong type or out of range.
    """
    known = (*SHARED, *OptimizeSettings.model_fields)
    for name in values:
        if name in RunConfig.model_fields and name not in known:
            raise RequestError(f"{name} belongs to training a decoder: optimize inverts each image by itself and has "
                               f"none. Its parameters: {', '.join(known)}.")
        if name not in known:
            raise unknown_parameter(name, known)
    given = {name: value for name, value in values.items() if not _is_empty(value)}
    own = {name: value for name, value in given.items() if name not in SHARED}
    shared = {name: value for name, value in given.items() if name in SHARED}
    if shared.get("precision") == "auto":
        del shared["precision"]
    return OptimizeConfig(shared=parse_config(DEFAULTS | shared), settings=_settings(own))


def _settings(values: Mapping[str, Any]) -> OptimizeSettings:
    try:
        return OptimizeSettings.model_validate(dict(values))
    except ValidationError as error:
        raise RequestError("; ".join(explain(detail, OptimizeSettings) for detail in error.errors())) from None


def _is_empty(value: Any) -> bool:
    """Whether a value is an empty text, which means the default, as in a run."""
    return isinstance(value, str) and not value.strip()
