"""The text of a request for encoders, taken apart without looking anything up."""

from __future__ import annotations

import re
from typing import NamedTuple

_FILE = r".*?\.py:[^\W\d]\w*(?:@[0-9a-f]{12})?(?=[:/]|$)|.*\.py(?=[:/]|$)"
_ENCODER = re.compile(rf"(?:timm/)?hf-hub:[^/:]*(?:/[^/:]*)?|timm/[^/:]*|{_FILE}|[^/:]*")
"""Names of timm's models and paths of files have slashes; modifiers are separated by them."""


class Request(NamedTuple):
    """``NAME:LAYER/pool=2/bits=4``; ``layer`` is None where there is no colon."""

    encoder: str
    layer: str | None
    modifiers: list[str]


def split_request(text: str) -> Request:
    """Takes the request for one encoder apart: ``my_encoder.py:Mine:layer1/pool=2``."""
    found = _ENCODER.match(text)
    encoder = found[0] if found else ""
    layer, *modifiers = text[len(encoder):].split("/")
    return Request(encoder.strip(), layer[1:].strip() if layer.startswith(":") else None, modifiers)


def encoders_in(text: str) -> list[str]:
    """The names of the encoders in a request for one or more: ``[vgg16, resnet34]`` of ``vgg16:block1+resnet34``."""
    return [split_request(part.strip()).encoder for part in text.split("+")]
