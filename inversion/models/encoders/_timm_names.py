"""The names of timm's models, read from its source code: importing timm imports PyTorch, which takes seconds."""

from __future__ import annotations

import difflib
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from inversion.errors import RequestError, UnknownNameError

_DEFINITION = re.compile(r"^@register_model\ndef (\w+)\(", re.MULTILINE)


class UnknownTimmModelError(UnknownNameError):
    """timm does not have this model; only the nearest of its more than a thousand names are listed."""

    def __init__(self, name: str, names: list[str]) -> None:
        nearest = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
        message = f"timm has no model {name!r} among its {len(names):,}."
        RequestError.__init__(self, f"{message} Nearest: {', '.join(nearest)}." if nearest else message)


def require_possible_model(name: str) -> None:
    """Raises an UnknownTimmModelError if timm cannot have a model, with or without a weights tag, of this name.

    A name that occurs nowhere in timm's source is none of its models, also none with an old name. It is not refused
    if timm is imported, which then knows better: other packages can add models to it.
    """
    source = "" if "timm" in sys.modules else _source()
    architecture = name.partition(".")[0]
    if source and not (architecture and re.search(rf"\b{re.escape(architecture)}\b", source)):
        raise UnknownTimmModelError(name, model_names())


def model_names() -> list[str]:
    """The names of all models that timm defines, as ``timm.list_models`` returns them; empty without its source."""
    return sorted(set(_DEFINITION.findall(_source())))


@cache
def _source() -> str:
    """The source of timm's models, 4 MB in 118 files."""
    package = find_spec("timm")
    folder = Path(package.origin).parent if package and package.origin else None
    files = sorted(folder.glob("models/*.py")) if folder else []
    return "\n".join(file.read_text("utf-8", "replace") for file in files)
