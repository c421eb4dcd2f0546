"""Names that no two configurations share: what tells variants of one combination apart stands behind the name."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from inversion.config.resolve import Fallback, run_name
from inversion.config.run_config import RunConfig

Document = Mapping[str, Any]


def name_of(document: Document) -> str:
    """The name that a run was given: whoever looks at it in MLflow can change the one that is shown there."""
    parameters = {name: document["parameters"].get(name, otherwise) for name, otherwise in (
        ("encoder", ""), ("decoder", ""), ("fusion", "none"), ("seed", 0))}
    if method := document["parameters"].get("method", document.get("method")):  # without a decoder: optimize
        parameters |= {"decoder": method, "fusion": "none"}
    fallbacks = [Fallback(**fallback) for fallback in document.get("fallbacks", [])]
    return run_name(RunConfig.model_construct(**parameters), fallbacks)


def identity_of(document: Document) -> str:
    """All that decides a run's numbers except its seed, as a text."""
    identity = document["identity"]
    parameters = {name: value for name, value in identity["parameters"].items() if name != "seed"}
    return json.dumps({**identity, "parameters": parameters}, sort_keys=True)


def distinguished(names: Sequence[str], documents: Sequence[Document]) -> list[str]:
    """The name of each run (``inversion.config``), with what tells it from others of that name.

    ``vgg16:block1+wavelet``, or ``vgg16:block1+wavelet lr=0.01`` where there is one with another ``lr``; what no
    parameter tells apart gets digits of its identity. Runs that differ in their seed alone need names that say so.
    """
    differing = _differing(names, documents)
    labels = [" ".join([name, *(f"{key}={_value(document, key)}" for key in differing[name])])
              for document, name in zip(documents, names, strict=True)]
    counts = Counter(labels)
    unique = [label if counts[label] == 1 else f"{label} #{_digits(document)}"
              for label, document in zip(labels, documents, strict=True)]
    assert len(set(unique)) == len(unique), unique  # noqa: S101  tables look configurations up by their labels
    return unique


def _differing(names: Sequence[str], documents: Sequence[Document]) -> dict[str, list[str]]:
    """For each name, the parameters of which its runs have several values."""
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
