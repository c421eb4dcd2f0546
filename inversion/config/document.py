"""What a run says of itself: the resolved configuration, in the tag ``inversion.config`` and in ``config.json``.

A document has a version. Those of every earlier one are read, and made into one of today; a newer one is read as far as
it has what is needed here, and who would compute with it refuses.

1. Has no field ``version``. ``fallbacks`` of the very first are texts.
2. The same with ``version``.

A parameter that is new gets a line in ``ADDED``, and raises ``VERSION``: runs before it had its value of then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inversion.config.resolve import NOT_SCIENTIFIC
from inversion.config.run_config import RunConfig, parse_config
from inversion.errors import RequestError

VERSION = 2

FIRST: Mapping[str, Any] = {
    "layer": "auto", "fusion": "none", "data_dir": "auto", "lpips_weights": "off", "protocol": "image",
    "image_size": 224, "epochs": 30, "batch_size": 4, "lr": 1e-4, "lr_patience": 5, "lr_factor": 0.5, "min_lr": 1e-6,
    "patience": 15, "mse_weight": 0.5, "lpips_weight": 0.5, "train_limit": 0, "val_limit": 0, "test_limit": 0,
    "decoder_options": "auto", "seed": 0, "device": "cpu", "precision": "fp32", "threads": 1, "strict": False,
}
"""What a parameter of version 1 was where a document leaves it out; encoder, decoder, data, weights have to be there.
Literals: what is the default today may be another tomorrow."""

ADDED: Mapping[int, Mapping[str, Any]] = {}
"""For each later version, the parameters that came with it, with what runs before had in their place."""

TAG_LENGTH = 5000
"""Older MLflow servers refuse longer tags, and newer ones cut them at 8,000 characters without a word."""


class DocumentError(RequestError):
    """A configuration document that is damaged, or that this version cannot use."""

    kind = "document"


class NoDocumentError(DocumentError):
    """A run without any: not made by inversion, or killed before it was described."""


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Parameters(_Shape):
    """Those that a report cannot do without; the others are checked when a run is computed from them."""

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


class _Trained(_Optimized):
    parameters: _RunParameters


class _Evaluated(_Shape):
    version: Annotated[int, Field(ge=1)] = 1
    parameters: dict[str, Any]
    data: _Data


def texts_of(document: Mapping[str, Any]) -> tuple[str, str]:
    """A document of this version as the tag's value and as the text of ``config.json``.

    The tag of one that is too long for a tag only says so: the file has it all.
    """
    whole = {"version": VERSION, **document}
    tag = json.dumps(whole, sort_keys=True)
    if len(tag) > TAG_LENGTH:
        tag = json.dumps({"version": VERSION, "see": "config.json"})
    return tag, json.dumps(whole, indent=2, sort_keys=True)


def read_document(text: str) -> dict[str, Any]:
    """A document of any version as one of this version; a newer one stays as it is.

    Raises:
        DocumentError: no JSON, or without what every version has; the message is a part of a sentence.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise DocumentError(f"is no JSON object but a {type(found).__name__}")
    document = _migrated(found)
    shape = _Evaluated if "evaluates" in document else _Optimized if "method" in document else _Trained
    try:
        shape.model_validate(document)
    except ValidationError as error:
        newer = f" ({_newer(document['version'])})" if is_newer(document) else ""
        raise DocumentError(f"{_fault(error)}{newer}") from error
    return document


def _fault(error: ValidationError) -> str:
    """The first thing that is wrong with a document, as part of a sentence."""
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
    """Whether a later version of inversion made it than this one."""
    version = version_of(document)
    return isinstance(version, int) and version > VERSION


def config_of(document: Mapping[str, Any], whose: str) -> RunConfig:
    """The configuration to compute with; ``whose`` names the run in messages.

    Raises:
        DocumentError: it is of a newer version, or says what this version does not know.
    """
    return config_from(document["parameters"], version_of(document), whose)


def config_from(parameters: Mapping[str, Any], version: int, whose: str) -> RunConfig:
    """The same from parameters that were stored with the version of their document.

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
    """Parameters with those that came after ``version``, or that it leaves out, as they were then."""
    return {**FIRST, **added_since(version, parameters)}


def added_since(version: int, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters, not all of them given, with those that came after ``version`` as they were then."""
    filled = dict(parameters)
    for later in range(version + 1, VERSION + 1):
        filled = {**ADDED.get(later, {}), **filled}
    return filled
