"""Names of photographs and runs as parts of file names: what every file system and tracking store takes."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

LONGEST = 100
"""Characters of a name in a file name. Systems take 255 bytes, and MLflow adds about 90 to an image's key."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
"""What Windows takes for a device, whatever its extension."""


def safe_name(name: str) -> str:
    """A photograph's name with only the characters that MLflow takes in keys and in artifact paths.

    A long one keeps its beginning, and ends in a digest of the whole, so that two of them stay two.
    """
    safe = re.sub(r"[^A-Za-z0-9_. -]", "_", name)
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST - 13]}-{_digest(name)}"


def safe_file_name(text: str) -> str:
    """Text as a part of a file name that every system and shell takes: ``vgg16:block1+wavelet`` with a dash.

    It is cut, and two texts can become one: ``unique`` tells them apart.
    """
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-.")[:LONGEST] or "picture"
    return _RESERVED.sub(r"\1-", safe, count=1) if _RESERVED.match(safe) else safe


def unique(names: Sequence[str]) -> list[str]:
    """The names; one that came before (or is a numbered one's) gets ``-2``, ``-3`` … before its extension ``.png``.

    Capitals do not count: on many systems, ``Cat.png`` and ``cat.png`` are one file.
    """
    given: dict[str, str] = {}
    for name in names:
        candidate, number = name, 1
        while candidate.casefold() in given:
            number += 1
            candidate = f"{name.removesuffix('.png')}-{number}{'.png' if name.endswith('.png') else ''}"
        given[candidate.casefold()] = candidate
    return list(given.values())


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
