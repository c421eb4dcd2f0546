"""Encoders in the notation of other libraries: ``hf-hub:timm/resnet50``, ``torchvision.models.vgg16``, ``ViT-S/16``.

They are not read, but answered: what it is, whether it can be an encoder, and how it is written here. timm is not
imported, which takes seconds.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from inversion.errors import UnknownNameError
from inversion.models.encoders._timm_hub import is_on_hub
from inversion.models.encoders.specs import TIMM_PREFIX
from inversion.synonyms import ENCODERS, meaning_of, plain

_TIMM_MODEL = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)

_HUB = re.compile(r"(?:https?://(?:www\.)?huggingface\.co/|(?:hf|hf[-_]hub|huggingface|hub)(?:://|[:/])(?:models/)?)(.+)",
                  re.I)
_TORCHVISION = re.compile(r"(?:torchvision(?:\.models)?[./:]|tv[/:])([^:]+)(?::.*)?", re.I)
_TIMM = re.compile(r"timm(?:://|[:.]|[-_](?=[a-z]))([^:]+)(?::.*)?", re.I)
_OTHERS = re.compile(r"(keras(?:\.applications)?|tensorflow|tf|torch\.hub|torchhub|open_clip|openclip|transformers|"
                     r"mmpretrain|mmcls|monai|flax|jax)[./:]+(.+)", re.I)

_ON_HUB = "models of Hugging Face's hub in timm's format are written as hf-hub:USER/REPO"
_TIMM_HAS_IT = "timm, which takes its weights from there, has this one"
_SOURCES = "from timm, and vgg16 and resnet34 from torchvision"


def is_foreign(text: str, own: Iterable[str]) -> bool:
    """Whether a request for an encoder, with its layer, is in another library's notation.

    ``own`` are our short names. A slash is no sign of it: ours separate modifiers (``vgg16:block1/pool=2``).
    """
    head = re.split(r"[:/]", text, maxsplit=1)[0]
    if text.startswith(TIMM_PREFIX) or is_on_hub(text) or head in own:
        return False
    return any(form.fullmatch(text) for form in (_HUB, _TORCHVISION, _TIMM, _OTHERS)) or (
        "/" in text and plain(_name(text)) in ENCODERS)


def unknown_encoder(text: str, known: Iterable[str], short: Iterable[str]) -> UnknownNameError:
    """The error for an encoder that is not known, or not by that name.

    Args:
        text: the request, which may have a layer.
        known: names that the message lists.
        short: names that it does not list, and suggests.
    """
    own = [*known, *short]
    meant, note = _explain(text, own)
    shown = text if _HUB.fullmatch(text) or _TIMM.fullmatch(text) or _OTHERS.fullmatch(text) else _name(text)
    if not (meant or note):
        meant = next(iter(difflib.get_close_matches(shown, own, n=1)), "")
    return UnknownNameError("unknown encoder", shown, [*known, "ensemble", "timm/NAME:LAYER"], meant, note)


def require_written(name: str) -> None:
    """Checks that a timm model is not only written otherwise (``timm/vit-small-patch16-224``), without importing timm.

    Raises:
        UnknownNameError: it is.
    """
    architecture = name.removeprefix(TIMM_PREFIX).partition(".")[0]
    if architecture not in timm_names() and plain(architecture) in _timm_by_plain():
        written = _timm_by_plain()[plain(architecture)]
        raise UnknownNameError("unknown encoder", name, ["timm/NAME:LAYER"], f"{TIMM_PREFIX}{written}")


def _explain(text: str, own: list[str]) -> tuple[str, str]:
    """How an encoder is written here, and what is to be said of it; each may be empty."""
    if found := _HUB.fullmatch(text):
        meant, note = _find(found[1].partition("@")[0].rpartition("/")[2], own)
        if meant.startswith(TIMM_PREFIX):
            return meant, _TIMM_HAS_IT
        return meant, f"{_ON_HUB}; {note}" if note and not meant else _ON_HUB
    if found := _TORCHVISION.fullmatch(text):
        meant, note = _find(found[1], own)
        if meant.startswith(TIMM_PREFIX) and "." in text:
            return meant, "torchvision's models beside vgg16 and resnet34 are used through timm"
        return meant, "" if meant else note or f"models are read {_SOURCES}, and timm has none of that name"
    if found := _TIMM.fullmatch(text):
        meant, note = _find(found[1], own)
        return meant, "timm's models are written with a slash" if meant else note or "timm has no model of that name"
    if found := _OTHERS.fullmatch(text):
        model = found[2].rpartition("/")[2]
        meant, _ = _find(f"clip {model}" if "clip" in found[1].lower() else model, own)
        return meant, f"models are read {_SOURCES}, and not from {found[1]}"
    return _find(_name(text), own)


def _name(text: str) -> str:
    """A request without its layer."""
    return text.partition(":")[0]


def _find(model: str, own: list[str]) -> tuple[str, str]:
    """The encoder of a bare name, and a remark; nothing if there is none."""
    model = model.strip()
    if written := next((name for name in own if plain(name) == plain(model)), ""):
        return written, ""
    meaning = meaning_of(model, ENCODERS)
    if meaning.names or meaning.instead:
        return meaning.among(meaning.names), meaning.remark(meaning.names)
    architecture, dot, tag = model.rpartition("/")[2].partition(".")
    if architecture in timm_names():
        return f"{TIMM_PREFIX}{architecture}{dot}{tag}", ""
    written = _timm_by_plain().get(plain(architecture), "")
    return (f"{TIMM_PREFIX}{written}{dot}{tag}", "") if written else ("", "")


@functools.cache
def timm_names() -> frozenset[str]:
    """timm's models by their definitions in its source: importing timm takes seconds."""
    package = find_spec("timm")
    if package is None or package.origin is None:
        return frozenset()
    files = (Path(package.origin).parent / "models").glob("*.py")
    return frozenset(name for file in files for name in _TIMM_MODEL.findall(file.read_text("utf-8")))


@functools.cache
def _timm_by_plain() -> dict[str, str]:
    """timm's models by their names as names are compared; of two that are then equal, none."""
    found: dict[str, str] = {}
    twice = set()
    for name in timm_names():
        if found.setdefault(plain(name), name) != name:
            twice.add(plain(name))
    return {key: name for key, name in found.items() if key not in twice}
