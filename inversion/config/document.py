"""The document of a run: its resolved configuration, in the tag ``inversion.config`` and in ``config.json``.

Documents have a version. Documents of earlier versions are migrated to the current one. Newer documents can be read if
they have the needed fields, but their configuration cannot be used for computing.

1. No field ``version``. In the first releases, ``fallbacks`` are strings.
2. Version 1 with the field ``version``.
3. With the parameters ``fusion_options`` and ``vgg_weights``.
4. With the parameters ``schedule`` and ``clip_norm``.
5. With the parameter ``crops``.
6. With the parameters ``metrics``, ``loss`` and ``loss_weight``. Of runs with metrics, ``metrics`` says which direction
   of each is better.

For a new parameter, increment ``VERSION`` and add to ``run_config.ADDED`` the value that corresponds to the earlier
behaviour.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inversion.config.resolve import NOT_SCIENTIFIC
from inversion.config.run_config import ADDED, RunConfig, parse_config
from inversion.errors import RequestError

VERSION = 6

FIRST: Mapping[str, Any] = {
    "layer": "auto", "fusion": "none", "data_dir": "auto", "lpips_weights": "off", "protocol": "image",
    "image_size": 224, "epochs": 30, "batch_size": 4, "lr": 1e-4, "lr_patience": 5, "lr_factor": 0.5, "min_lr": 1e-6,
    "patience": 15, "mse_weight": 0.5, "lpips_weight": 0.5, "train_limit": 0, "val_limit": 0, "test_limit": 0,
    "decoder_options": "auto", "seed": 0, "device": "cpu", "precision": "fp32", "threads": 1, "strict": False,
}
"""Parameters of version 1 that a document may omit; encoder, decoder, data and weights are required.

They are literals because the defaults of ``RunConfig`` may change."""

TAG_LENGTH = 5000
"""Older MLflow servers refuse longer tags, and newer ones silently truncate them at 8,000 characters."""


class DocumentError(RequestError):
    """A configuration document that is damaged, or that this version cannot use."""

    kind = "document"


class NoDocumentError(DocumentError):
    """The run has no document: it is not of inversion, or was killed before it was logged."""


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Parameters(_Shape):
    """The parameters that a report needs; the others are checked when the configuration is used."""

    encoder: str
    decoder: str
    protocol: str
    image_size: int
    weights: str
    precision: str
    device: str
    seed: int


class _RunParameters(_Parameters):
    fusion: str
    decoder_options: str
    lpips_weights: str


class _Identity(_Shape):
    recipe: int
    parameters: dict[str, Any]
    data: str
    weights: dict[str, str]
    lpips: str | None


class _Data(_Shape):
    name: str
    digest: str
    images: dict[str, Annotated[int, Field(ge=0)]] = {}


class _Fallback(_Shape):
    short: str
    remedy: str


class _Optimized(_Shape):
    version: Annotated[int, Field(ge=1)] = 1
    parameters: _Parameters
    identity: _Identity
    data: _Data
    fallbacks: list[_Fallback] = []


class _OwnMetric(_Shape):
    better: Literal["higher", "lower"]


class _Trained(_Optimized):
    parameters: _RunParameters
    metrics: dict[str, _OwnMetric] = {}


class _Evaluated(_Shape):
    version: Annotated[int, Field(ge=1)] = 1
    parameters: dict[str, Any]
    data: _Data


def texts_of(document: Mapping[str, Any]) -> tuple[str, str]:
    """A document of the current version as the value of the tag and as the text of ``config.json``.

    If it is too long for a tag, the tag only refers to the file.
    """
    whole = {"version": VERSION, **document}
    tag = json.dumps(whole, sort_keys=True)
    if len(tag) > TAG_LENGTH:
        tag = json.dumps({"version": VERSION, "see": "config.json"})
    return tag, json.dumps(whole, indent=2, sort_keys=True)


def read_document(text: str) -> dict[str, Any]:
    """Parses a document and migrates it to the current version; a newer one is returned unchanged.

    Raises:
        DocumentError: it is not JSON, or lacks required fields; the message is part of a sentence.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"is not JSON ({error})") from error
    if not isinstance(found, dict):
        raise DocumentError(f"is not a JSON object but a {type(found).__name__}")
    document = _migrated(found)
    shape = _Evaluated if "evaluates" in document else _Optimized if "method" in document else _Trained
    try:
        shape.model_validate(document)
    except ValidationError as error:
        newer = f" ({_newer(document['version'])})" if is_newer(document) else ""
        raise DocumentError(f"{_fault(error)}{newer}") from error
    return document


def _fault(error: ValidationError) -> str:
    """The first validation error, as part of a sentence."""
    detail = error.errors()[0]
    where = ".".join(map(str, detail["loc"]))
    return f"has no {where}" if detail["type"] == "missing" else f"has a wrong {where}: {detail['msg']}"


def _newer(version: int) -> str:
    return f"made by a newer version of inversion: document version {version}, this one reads up to {VERSION}"


def version_of(document: Mapping[str, Any]) -> int:
    """The version of a document."""
    version: int = document.get("version", 1)
    return version


def is_newer(document: Mapping[str, Any]) -> bool:
    """Whether it was written by a newer version of inversion."""
    version = version_of(document)
    return isinstance(version, int) and version > VERSION


def config_of(document: Mapping[str, Any], whose: str) -> RunConfig:
    """The configuration of a document, to train or evaluate with; ``whose`` names the run in messages.

    Raises:
        DocumentError: it is of a newer version, or has unknown parameters or values.
    """
    return config_from(document["parameters"], version_of(document), whose)


def config_from(parameters: Mapping[str, Any], version: int, whose: str) -> RunConfig:
    """The configuration from a document's parameters and version.

    Raises:
        DocumentError: as ``config_of``.
    """
    if version > VERSION:
        raise DocumentError(f"{whose} was {_newer(version)}. Update inversion on this machine.")
    if unknown := sorted(parameters.keys() - RunConfig.model_fields.keys()):
        raise DocumentError(f"{whose} has parameters that this version of inversion does not know: "
                            f"{', '.join(unknown)}. Use the version that made it.")
    try:
        return parse_config(_filled(parameters, version))
    except RequestError as error:
        raise DocumentError(f"{whose} cannot be used by this version of inversion: {error}") from error


def _migrated(found: dict[str, Any]) -> dict[str, Any]:
    version = found.get("version", 1)
    if version not in range(1, VERSION + 1) or isinstance(version, bool):
        return found
    document = {**found, "version": VERSION}
    if isinstance(found.get("fallbacks"), list):
        document["fallbacks"] = [{"short": item, "remedy": "inversion doctor says what is there"}
                                 if isinstance(item, str) else item for item in found["fallbacks"]]
    if "method" not in found and isinstance(found.get("parameters"), dict):
        document["parameters"] = filled = _filled(found["parameters"], version)
        identity = found.get("identity")
        if isinstance(identity, dict) and isinstance(identity.get("parameters"), dict):
            added = {name: value for name, value in filled.items()
                     if name not in found["parameters"] and name not in NOT_SCIENTIFIC}
            document["identity"] = {**identity, "parameters": {**added, **identity["parameters"]}}
    return document


def _filled(parameters: Mapping[str, Any], version: int) -> dict[str, Any]:
    """Parameters of a document of ``version``, with omitted and later parameters filled in."""
    return {**FIRST, **added_since(version, parameters)}


def added_since(version: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Some parameters of a document of ``version``, with those of later versions filled in from ``ADDED``."""
    filled = dict(parameters)
    for later in range(version + 1, VERSION + 1):
        filled = {**ADDED.get(later, {}), **filled}
    return filled
