"""Which runs can be compared: the same target, photographs, frozen weights, image size and metric, each by its content.

Names and paths do not count: a folder may be copied, and another file may lie where one was.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from inversion.config.resolve import RECIPE

COMPARABLE = ("protocol", "data", "weights", "image_size", "test_limit", "lpips_weights", "recipe")
"""What has to be the same for two scores to be ranked together."""

USUAL = {"test_limit": "0", "lpips_weights": "off", "recipe": str(RECIPE)}
"""What goes without saying in a title."""

Group = tuple[str, ...]
"""A text for each name in ``COMPARABLE``; where two texts are equal, so are the contents that they stand for."""

Document = Mapping[str, Any]


def title_of(group: Group) -> str:
    """What the members of a group have in common, in words."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in zip(COMPARABLE, group, strict=True)
                     if USUAL.get(name) != value)


def groups_of(documents: Sequence[Document]) -> list[Group]:
    """For each run's document (``inversion.config``), what its scores can be compared within."""
    names = _names_of_data(documents)
    weights = _weights(documents)
    return [_group(document["identity"], names, text) for document, text in zip(documents, weights, strict=True)]


def _group(identity: Mapping[str, Any], names: Mapping[str, str], weights: str) -> Group:
    parameters = identity["parameters"]
    return (str(parameters.get("protocol")), f"{names[identity['data']]} {identity['data'][:8]}", weights,
            str(parameters.get("image_size")), str(parameters.get("test_limit", 0)), _lpips(identity["lpips"]),
            str(identity["recipe"]))


def _names_of_data(documents: Sequence[Document]) -> dict[str, str]:
    """One name for each content, whatever its folders are called."""
    names: dict[str, str] = {}
    for document in documents:
        digest, name = document["identity"]["data"], str(document["data"]["name"])
        names[digest] = min(names.get(digest, name), name)
    return names


def _lpips(identity: str | None) -> str:
    if identity is None:
        return "off"
    kind, _, digest = identity.partition(":")
    return f"file {digest[:8]}" if kind == "sha256" else "imagenet"


@dataclass
class _Family:
    """Frozen weights that belong together: what was asked for, and the content that each encoder got."""

    asked: set[str] = field(default_factory=set)
    content: dict[str, str] = field(default_factory=dict)

    def takes(self, asked: str, content: Mapping[str, str]) -> bool:
        """Whether no encoder got anything else here, and something ties the two together."""
        agree = all(self.content.get(encoder, identity) == identity for encoder, identity in content.items())
        return agree and (asked in self.asked or bool(self.content.keys() & content.keys()))

    def text(self, precise: bool) -> str:
        """``imagenet``, ``random:7``, or for files and mixtures a digest; ``precise`` gives the digest always."""
        keywords = sorted(text for text in self.asked if re.fullmatch(r"imagenet|random(:\d+)?", text))
        digest = hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()[:8]
        if not keywords:
            return f"own {digest}"
        return f"{keywords[0]} {digest}" if precise else keywords[0]


def _weights(documents: Sequence[Document]) -> list[str]:
    """A text for each document's weights.

    Different encoders have different weights, so equality is of families: runs that asked for the same, or share an
    encoder, as long as no encoder has two contents. Those with most encoders tie others together, and come first.
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
