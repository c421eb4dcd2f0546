"""The source of an encoder's weights: parsing of the parameter ``weights``, without reading tensors.

This module does not import PyTorch.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from inversion.errors import WeightsError
from inversion.files import known_sha256, why_not_there
from inversion.models.encoders.catalog import ENCODERS, EncoderCut, encoder_spec, outside_encoders
from inversion.models.encoders.file_content import ForeignFileError, format_of
from inversion.models.encoders.imagenet import imagenet_name
from inversion.models.encoders.specs import TIMM_PREFIX
from inversion.models.part_files import short_name
from inversion.synonyms import WEIGHTS, meaning_of

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".pth.tar", ".bin")
"""Usual extensions of weights files; other files are accepted by their content."""

MOST_DIGITS = 18
"""Most digits of a seed; Python itself refuses to parse several thousand."""

RANDOM_RECIPE = "v1"
"""Version of the random initialisation, part of the digest: increment it when a seed gives other weights."""


@dataclass(frozen=True)
class WeightsSource:
    """Where one encoder's weights come from: ``imagenet``, ``random`` with a seed, or a ``file`` at a path.

    An encoder from outside has its ``own`` weights instead of ImageNet's, those that it is made with. ``part`` selects
    one of several models in a file, such as ``teacher``.
    """

    encoder: str
    kind: Literal["imagenet", "own", "random", "file"]
    seed: int = 0
    path: Path | None = None
    part: str = ""

    def __str__(self) -> str:
        if self.kind == "random":
            return f"random:{self.seed}" if self.seed else "random"
        return with_part(self.path, self.part) if self.path else "imagenet"

    def described(self) -> str:
        """As ``str``, but weights of timm with their tag, which says what they were trained on, and own weights."""
        if self.kind == "own":
            return "its own weights"
        spec = encoder_spec(self.encoder)
        return f"pretrained ({spec.weights})" if self.kind == "imagenet" and spec.source == "timm" else str(self)

    def identity(self) -> str:
        """Short text that is equal for equal weights only; for a file, it depends on the content alone.

        Raises:
            WeightsError: the file cannot be read.
            RequestError: the code of an encoder from outside fails, or its weights are others each time.
        """
        if self.kind == "imagenet":
            return imagenet_name(self.encoder)
        if self.kind == "own":
            return f"own:{outside_encoders.get(self.encoder).identity()}"
        if self.path is None:
            return f"random:{self.seed}:{self._recipe()}"
        try:
            return with_part(f"sha256:{known_sha256(self.path)}", self.part)
        except OSError as error:
            raise WeightsError(f"weights {self.path} cannot be read: {error.strerror}") from error

    def _recipe(self) -> str:
        """What random weights depend on beside the seed."""
        if self.encoder in outside_encoders:
            return f"sha256-{outside_encoders.get(self.encoder).identity(False, self.seed)}"
        # Other timm models are initialised by timm, whose code may change between versions.
        return RANDOM_RECIPE if self.encoder in ENCODERS else f"timm-{version('timm')}"


def parse_weights(text: str, cuts: Sequence[EncoderCut]) -> dict[str, WeightsSource]:
    """The source of each encoder in ``cuts``, from the parameter ``weights``.

    ``text`` is ``imagenet``, ``random``, ``random:SEED``, a state-dict file (for one encoder), a folder with one file
    per encoder (``vgg16*.pth`` or another of ``SUFFIXES``), or ``vgg16=FILE,resnet34=FILE``, with keywords allowed in
    place of files. ``FILE#teacher`` means a part of a file. The caller must resolve ``auto`` first (see
    ``imagenet_status``).

    Raises:
        WeightsError: a file is missing, ambiguous or of an unknown format, or an encoder has no file.
        UnknownNameError: ``NAME=FILE`` names an unknown encoder.
    """
    if text == "auto":
        raise ValueError("weights=auto has to be resolved to imagenet or random first")
    encoders = list(dict.fromkeys(cut.encoder for cut in cuts))
    path = Path(os.path.expanduser(text))
    is_folder = _is(path, stat.S_ISDIR)
    if "=" in text and not is_folder and not find_file(text):
        return _parse_mapping(text, encoders)
    if is_folder:
        return {encoder: WeightsSource(encoder, "file", path=_find(path, encoder)) for encoder in encoders}
    if find_file(text) and len(encoders) > 1:
        raise WeightsError(f"weights {text} is one file for several encoders ({', '.join(encoders)}): give a folder "
                           f"with a file for each, or {','.join(f'{encoder}=FILE' for encoder in encoders)}")
    return {encoder: _parse_source(text, encoder) for encoder in encoders}


def _parse_mapping(text: str, encoders: list[str]) -> dict[str, WeightsSource]:
    given: dict[str, str] = {}
    for item in text.split(","):
        name, equals, value = (piece.strip() for piece in item.partition("="))
        if not (name and equals and value):
            raise WeightsError(f"weights: {item!r} is not of the form ENCODER=FILE (as in vgg16=FILE,resnet34=FILE)")
        # Other encoders than this run's are allowed, so that a sweep can use one mapping.
        encoder = encoder_spec(name).name
        if encoder in given:
            raise WeightsError(f"weights: {encoder} is given twice")
        given[encoder] = value
    if missing := [encoder for encoder in encoders if encoder not in given]:
        raise WeightsError(f"weights: nothing is given for {', '.join(missing)}. Add {missing[0]}=FILE.")
    return {encoder: _parse_source(given[encoder], encoder) for encoder in encoders}


def _parse_source(text: str, encoder: str) -> WeightsSource:
    if text in ("imagenet", "pretrained"):
        return WeightsSource(encoder, "own" if encoder in outside_encoders else "imagenet")
    keyword, _, seed = text.partition(":")
    if keyword == "random" and (seed.isdecimal() or text == "random"):
        if len(seed) > MOST_DIGITS:
            raise WeightsError(f"weights: the SEED of random:SEED has {len(seed):,} digits. Allowed: a whole number of "
                               f"at most {MOST_DIGITS}.")
        return WeightsSource(encoder, "random", seed=int(seed or 0))
    found = find_file(text)
    if not found:
        why = why_not_there(Path(os.path.expanduser(text)))
        if not why:
            raise WeightsError(f"weights {text!r} is neither a regular file nor a folder")
        message = f"weights {text!r}: {why}, and none of imagenet, random, random:SEED."
        meant = meaning_of(text, WEIGHTS, ("imagenet", "random")).names
        if nearest := meant or difflib.get_close_matches(text, ["imagenet", "random", "random:SEED"], n=1):
            message += f" Did you mean {nearest[0]!r}?"
        raise WeightsError(message)
    path, part = found
    if not path.name.endswith(SUFFIXES):
        try:
            format_of(path)
        except (ForeignFileError, OSError) as error:
            raise WeightsError(f"weights {text}: only state dicts as {', '.join(SUFFIXES[:3])} are read (also called "
                               f"{', '.join(SUFFIXES[3:])}, or otherwise); by its content {error}") from error
    return WeightsSource(encoder, "file", path=path.resolve(), part=part)


def find_file(text: str) -> tuple[Path, str] | None:
    """The file of ``FILE`` or ``FILE#part``, and the part; a file whose name contains the ``#`` is preferred.

    Raises:
        WeightsError: the file exists, but the part after the ``#`` is empty.
    """
    head, mark, part = text, "", ""
    while True:
        path = Path(os.path.expanduser(head))
        if _is(path, stat.S_ISREG):
            if mark and not part:
                raise WeightsError(f"weights {text}: the name of a part is missing after #, as in {head}#teacher")
            return path, part
        head, mark, last = head.rpartition("#")
        if not mark:
            return None
        part = f"{last}#{part}" if part else last


def _is(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether a file of the kind exists at the path; False also for invalid paths or without permission."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):  # too long a name, no permission, a null character
        return False


def with_part(text: str | Path, part: str) -> str:
    """``FILE#part`` or ``FILE``, as parsed by ``find_file``."""
    return f"{text}#{part}" if part else str(text)


def _find(folder: Path, encoder: str) -> Path:
    """The only file in ``folder`` named after ``encoder``; an exact name is preferred to a longer one."""
    stem = short_name(encoder).removeprefix(TIMM_PREFIX).partition("@")[0].rpartition("/")[2]
    try:
        files = sorted(file for file in folder.iterdir() if file.name.endswith(SUFFIXES) and os.path.isfile(file))
    except OSError as error:
        raise WeightsError(f"weights {folder} cannot be read: {error.strerror or error}") from error
    for candidates in ([file for file in files if file.name.removeprefix(stem) in SUFFIXES],
                       [file for file in files if file.name.startswith(stem)]):
        if len(candidates) == 1:
            return candidates[0].resolve()
        if candidates:
            raise WeightsError(f"weights {folder} has several files for {encoder}: "
                               f"{', '.join(file.name for file in candidates)}. Keep one, or name it {stem}.pth.")
    listing = ", ".join(file.name for file in files) or "no weights at all"
    raise WeightsError(f"weights {folder} has no file {stem}*.pth ({', '.join(SUFFIXES)}) for {encoder}; it "
                       f"has {listing}")
