"""Which runs can be compared, and labels that are unique within a group of comparable runs.

Runs are comparable if protocol, images, frozen weights, image size and metric are the same. Images and weights are
compared by content: a folder may have been copied, and the file at a path may have changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inversion.config.resolve import RECIPE, Fallback, run_name
from inversion.config.run_config import RunConfig

COMPARABLE = ("protocol", "data", "weights", "image_size", "test_limit", "lpips_weights", "recipe")
"""What must be equal for two scores to be ranked together."""

USUAL = {"test_limit": "0", "lpips_weights": "off", "recipe": str(RECIPE)}
"""Default values, which titles leave out."""

Group = tuple[str, ...]
"""A text for each name in ``COMPARABLE``; equal texts stand for equal contents."""

Document = Mapping[str, Any]
"""The configuration of a run, as in its tag ``inversion.config``."""


def title_of(group: Group) -> str:
    """What the runs of a group have in common, as a title."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(COMPARABLE, group, strict=True)
                     if USUAL.get(name) != value)


def groups_of(documents: Sequence[Document]) -> list[Group]:
    """The group of each run, from its document."""
    names, judges = _names_of_data(documents), _names_of_lpips(documents)
    weights = _weights(documents)
    return [_group(document["identity"], names, judges, text)
            for document, text in zip(documents, weights, strict=True)]


def _group(identity: Mapping[str, Any], names: Mapping[str, str], judges: Mapping[str, str], weights: str) -> Group:
    parameters = identity["parameters"]
    return (str(parameters.get("protocol")), f"{names[identity['data']]} {identity['data'][:8]}", weights,
            str(parameters.get("image_size")), str(parameters.get("test_limit", 0)), _lpips(identity["lpips"], judges),
            str(identity["recipe"]))


def _names_of_data(documents: Sequence[Document]) -> dict[str, str]:
    """One name per data digest, whatever the folders are called."""
    names: dict[str, str] = {}
    for document in documents:
        digest, name = document["identity"]["data"], str(document["data"]["name"])
        names[digest] = min(names.get(digest, name), name)
    return names


def _names_of_lpips(documents: Sequence[Document]) -> dict[str, str]:
    """One name of the LPIPS network's file per digest, wherever it lies."""
    names: dict[str, str] = {}
    for document in documents:
        identity, given = document["identity"]["lpips"], str(document["parameters"].get("lpips_weights", ""))
        if identity is not None and given:
            name = _file_names({given})
            names[identity] = min(names.get(identity, name), name)
    return names


def _lpips(identity: str | None, names: Mapping[str, str]) -> str:
    if identity is None:
        return "off"
    kind, _, digest = identity.partition(":")
    return f"{names.get(identity, 'file')} {digest[:8]}" if kind == "sha256" else "imagenet"


@dataclass
class _Family:
    """Frozen weights that belong together: the values requested, and the content that each encoder got."""

    asked: set[str] = field(default_factory=set)
    content: dict[str, str] = field(default_factory=dict)

    def takes(self, asked: str, content: Mapping[str, str]) -> bool:
        """Whether no encoder has other content here, and the request or an encoder is shared."""
        agree = all(self.content.get(encoder, identity) == identity for encoder, identity in content.items())
        return agree and (asked in self.asked or bool(self.content.keys() & content.keys()))

    def text(self, precise: bool) -> str:
        """``imagenet``, ``random:7``, or the name and digest of files; ``precise`` always adds the digest."""
        keywords = sorted(text for text in self.asked if re.fullmatch(r"imagenet|random(:\d+)?", text))
        digest = hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:8]
        if not keywords:
            return f"{_file_names(self.asked)} {digest}"
        return f"{keywords[0]} {digest}" if precise else keywords[0]


def _file_names(asked: set[str]) -> str:
    """``vgg16.safetensors``, or the first name of several; the folders are left out."""
    pieces = {piece.rpartition("=")[2].strip() for text in asked for piece in text.split(",")}
    names = sorted({re.split(r"[/\\]", piece.rstrip("/\\"))[-1] for piece in pieces} - {""})
    return (names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")) if names else "own"


def _weights(documents: Sequence[Document]) -> list[str]:
    """A text for the weights of each document.

    Different encoders have different weights, so weights are compared by family: runs that requested the same weights
    or share an encoder, provided no encoder has two contents. Runs with most encoders come first, as they link others.
    """
    asked = [(str(document["parameters"]["weights"]), document["identity"]["weights"]) for document in documents]
    found: list[_Family] = []
    of: dict[int, _Family] = {}
    order = [(-len(content), text, sorted(content.items()), number) for number, (text, content) in enumerate(asked)]
    for *_, number in sorted(order):
        text, content = asked[number]
        family = next((family for family in found if family.takes(text, content)), None)
        if family is None:
            found.append(family := _Family())
        family.asked.add(text)
        family.content |= content
        of[number] = family
    plain = [family.text(precise=False) for family in found]
    texts = {id(family): family.text(precise=plain.count(text) > 1) for family, text in zip(found, plain, strict=True)}
    return [texts[id(of[number])] for number in range(len(documents))]


def name_of(document: Document) -> str:
    """The name that a run was created with; the one shown in MLflow can be edited."""
    parameters = {name: document["parameters"].get(name, otherwise) for name, otherwise in (
        ("encoder", ""), ("decoder", ""), ("fusion", "none"), ("seed", 0))}
    if method := document["parameters"].get("method", document.get("method")):  # `inversion optimize` has no decoder
        parameters |= {"decoder": method, "fusion": "none"}
    fallbacks = [Fallback(**fallback) for fallback in document.get("fallbacks", [])]
    return run_name(RunConfig.model_construct(**parameters), fallbacks)


def identity_of(document: Document) -> str:
    """Everything that determines the scores of a run except the seed, as a text."""
    identity = document["identity"]
    parameters = {name: value for name, value in identity["parameters"].items() if name != "seed"}
    return json.dumps({**identity, "parameters": parameters}, sort_keys=True)


def distinguished(names: Sequence[str], documents: Sequence[Document]) -> list[str]:
    """A unique label for each run: its name, followed by the parameters in which runs of that name differ.

    ``vgg16:block1+wavelet``, or ``vgg16:block1+wavelet lr=0.01`` if another run of that name has another ``lr``. Runs
    that no parameter distinguishes get digits of their identity. Runs that differ only in the seed must be given names
    that contain it.
    """
    differing = _differing(names, documents)
    labels = [" ".join([name, *(f"{key}={_value(document, key)}" for key in differing[name])])
              for document, name in zip(documents, names, strict=True)]
    counts = Counter(labels)
    unique = [label if counts[label] == 1 else f"{label} #{_digits(document)}"
              for label, document in zip(labels, documents, strict=True)]
    assert len(set(unique)) == len(unique), unique  # noqa: S101  tables look up configurations by label
    return unique


def _differing(names: Sequence[str], documents: Sequence[Document]) -> dict[str, list[str]]:
    """For each name, the parameters that have several values among its runs."""
    values: dict[str, dict[str, set[str]]] = {}
    for document, name in zip(documents, names, strict=True):
        for key in document["identity"]["parameters"]:
            values.setdefault(name, {}).setdefault(key, set()).add(_value(document, key))
    return {name: [key for key, found in sorted(keys.items()) if key != "seed" and len(found) > 1]
            for name, keys in values.items()}


def _value(document: Document, key: str) -> str:
    return str(document["identity"]["parameters"].get(key))


def _digits(document: Document) -> str:
    return hashlib.sha256(identity_of(document).encode()).hexdigest()[:6]
