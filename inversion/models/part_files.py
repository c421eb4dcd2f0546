"""Parts in a file of the user's own: ``my_decoder.py:MyDecoder``, without changing this package.

The full name of such a part, ``my_decoder.py:MyDecoder@3f2a9c1b4d5e``, ends with a digest of the file's content. Runs
are logged and compared under full names, so a changed file is another part. The file is logged with the run, and put
into the queue of a study.

A file is code, and is executed (``part_code``). The content that a full name stands for is taken from this machine,
where the user has the file or has used it before (``find``); content that comes with somebody's run is executed only if
the user says so (``accept``). This module does not import PyTorch.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inversion.data.datasets import default_data_dir
from inversion.errors import RequestError
from inversion.files import open_regular, replacing, shown, user_path, why_not_there

FOLDER = "code"
"""Where the files are among the artifacts of a run, in a logged model, and in the data folder."""

MAX_BYTES = 1_000_000

_REFERENCE = re.compile(r"(?P<path>[^@]+\.py):(?P<part>[^\W\d]\w*)(?:@(?P<digest>[0-9a-f]{12}))?")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\.py")

_logger = logging.getLogger(__name__)


class UntrustedCodeError(RequestError):
    """A run needs code that is not on this machine, and the user has not said that it may be executed."""

    kind = "code"


@dataclass(frozen=True)
class PartFile:
    """A Python file by name and content; ``path`` is where it was read from, if it is a file on this machine."""

    name: str
    content: bytes
    path: Path | None = None

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the content's SHA-256."""
        return self.sha256[:12]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def origin(self) -> str:
        """The name of the file in tracebacks and debuggers."""
        return str(self.path or f"<{self.name}@{self.digest}>")

    @property
    def artifact(self) -> str:
        """Its path among artifacts: ``code/3f2a9c1b4d5e/my_decoder.py``."""
        return f"{FOLDER}/{self.digest}/{self.name}"


@dataclass(frozen=True)
class Reference:
    """A part as it is written: the path of a file, the name in it and, in a full name, the digest."""

    path: str
    part: str
    digest: str = ""

    @property
    def file(self) -> str:
        return Path(self.path).name

    @property
    def artifact(self) -> str:
        """As ``PartFile.artifact``."""
        return f"{FOLDER}/{self.digest}/{self.file}"

    def __str__(self) -> str:
        return f"{self.file}:{self.part}@{self.digest}" if self.digest else f"{self.path}:{self.part}"


_known: dict[str, PartFile] = {}
"""The files that this process may execute, by digest."""


def is_reference(text: str) -> bool:
    """Whether a text names a Python file, correctly or not."""
    return re.search(r"\.py(:|@|$)", text) is not None


def parse_reference(text: str, kind: str) -> Reference:
    """Parses ``FILE.py:NAME`` or a full name.

    Raises:
        RequestError: it has another form.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise RequestError(f"{kind} {text!r} is not of the form FILE.py:NAME, the name of a class or function in a "
                           f"file (as in my_{kind}.py:My{kind.title()})")
    return Reference(match["path"], match["part"], match["digest"] or "")


def references(names: Iterable[str]) -> list[Reference]:
    """The full names among names of parts, parsed."""
    return [Reference(match["path"], match["part"], match["digest"]) for name in names
            if (match := _REFERENCE.fullmatch(name)) and match["digest"]]


def short_name(name: str) -> str:
    """A full name without the file, as in the names of runs: ``MyDecoder@3f2a9c1b``; other names as they are."""
    return next((f"{reference.part}@{reference.digest[:8]}" for reference in references([name])), name)


def find(reference: Reference) -> PartFile | None:
    """The file of a full name: named in this process, in the current folder, or used by this user before.

    Only the file's name is used: the path may come from somebody's run.
    """
    if reference.digest in _known:
        return _known[reference.digest]
    kept = default_data_dir() / reference.artifact
    for path in (Path(reference.file), *([kept] if _is_own(kept) else [])):
        try:
            file = PartFile(reference.file, _read_bytes(path), path.absolute())
        except (OSError, ValueError):
            continue
        if file.digest == reference.digest:
            allow(file)
            return file
    return None


def find_all(names: Iterable[str]) -> Iterator[PartFile]:
    """The files of the full names among names of parts that are at hand, each once."""
    found = {reference.digest: file for reference in references(names) if (file := find(reference))}
    yield from found.values()


def accept(names: Iterable[str], fetch: Callable[[Reference], bytes], trust: bool, whose: str) -> None:
    """Makes sure that the files of a run's parts can be executed.

    Args:
        names: the names of the parts, as they were logged; those that are not in files are left out.
        fetch: the content of a file that is not on this machine, as it comes with a run.
        trust: whether the user has said that such a content may be executed.
        whose: what needs the files, for messages.

    Raises:
        UntrustedCodeError: a file is not on this machine, and is not trusted.
        RequestError: the content is not what the name stands for, or a name has no digest: only a user names files.
    """
    names = [name for name in names if is_reference(name)]
    for reference in references(names):
        if find(reference) is not None:
            continue
        if not trust:
            raise UntrustedCodeError(
                f"{whose} needs the code of {reference}, which is not on this machine and would be executed here. Read "
                f"it ({reference.artifact} among the artifacts), then add --trust-code (in Python, trust_code=True)")
        file = PartFile(reference.file, fetch(reference))
        if file.digest != reference.digest:
            raise RequestError(f"{whose}: its {reference.artifact} is damaged: it is not the code of {reference}")
        allow(file)
    if wrong := [name for name in names if not references([name])]:
        raise RequestError(f"{whose} names the file {wrong[0]!r} without a digest of its content: it was not logged by "
                           "inversion")


def allow(file: PartFile) -> None:
    """Allows this process to execute a file."""
    _known.setdefault(file.digest, file)


def is_known(file: PartFile) -> bool:
    """Whether this process may execute a file."""
    known = _known.get(file.digest)
    return known is not None and known.content == file.content


def known_files() -> Iterable[PartFile]:
    """The files that this process may execute."""
    return _known.values()


def keep(names: Iterable[str]) -> None:
    """Keeps the files of all full names among names of parts in the data folder, so that ``find`` finds them later."""
    for file in find_all(names):
        path = default_data_dir() / file.artifact
        try:
            if not _is_own(path):
                with replacing(path) as new:
                    new.write_bytes(file.content)
        except OSError as error:
            _logger.info("%s cannot be kept: %s", path, error)


def read(path_text: str, what: str) -> PartFile:
    """Reads a file that the user has named; ``what`` names the part in messages.

    Raises:
        RequestError: it is missing, too large, or its name cannot be used.
    """
    path = user_path(path_text, what)
    if not _FILE_NAME.fullmatch(path.name):
        raise RequestError(f"{what}: the name of the file is logged with each run; it has only the letters A to Z, "
                           "digits and . _ - (at most 100). Rename it")
    try:
        return PartFile(path.name, _read_bytes(path), path.absolute())
    except OSError as error:
        raise RequestError(f"{what}: {why_not_there(path) or error.strerror or error}: {shown(path)}") from error
    except ValueError as error:
        raise RequestError(f"{what}: {error}") from error


def _read_bytes(path: Path) -> bytes:
    """Raises OSError, or ValueError for a file that is too large."""
    with open_regular(path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"the file is larger than {MAX_BYTES:,} bytes: is it Python code?")
    return content


def _is_own(path: Path) -> bool:
    """Whether this user has written the file: the data folder may be shared."""
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False
