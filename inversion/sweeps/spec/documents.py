"""Spec files: finding one, reading it, and joining it with the file that it extends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import inversion
from inversion.config.run_config import RunConfig
from inversion.errors import RequestError, SeveralErrors, UnknownNameError
from inversion.sweeps.spec.source import (
    ErrorCollector,
    Scalar,
    Section,
    Value,
    as_yaml,
    check_keys,
    read_text,
    read_yaml,
)
from inversion.synonyms import PARAMETERS, SPEC_KEYS, meaning_of
from inversion.text import visible

_FOLDERS = (Path(inversion.__file__).parents[1] / "sweeps", Path(__file__).parents[1] / "studies")
SHIPPED = next((folder for folder in _FOLDERS if (folder / "grid.yaml").is_file()), _FOLDERS[1])
"""The study files that come with the project: ``sweeps/`` of a clone, ``inversion/sweeps/studies`` of a wheel."""

KEYS = ("study", "extends", "base", "grid", "exclude", "tune", "pruner", "search", "limits", "tags", "comment")
NOT_INHERITED = ("study", "extends", "comment")
MERGED = ("base", "tags")
REPLACED_WITH = {"grid": ("search", "exclude"), "search": ("grid", "exclude", "tune", "pruner")}
"""What a section that replaces an inherited one removes beside it."""

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Document:
    """A spec file, joined with what it extends.

    Attributes:
        path: The file.
        text: Its content; of a file that extends another, one text that says all of both.
        top: Its sections, with the positions in their files.
        extended: The files that it extends, the nearest first.
        later: The parameters of ``base`` that were set by a file that extends the one with the grid.
    """

    path: Path
    text: str
    top: Section
    extended: tuple[Path, ...] = ()
    later: frozenset[str] = frozenset()


def find_spec(name: str, beside: Path = Path()) -> Path:
    """The spec file at a path, or else the shipped one of that name (``grid.yaml`` or ``grid``).

    Relative paths begin in the folder ``beside``.

    Raises:
        UnknownNameError: there is neither.
        RequestError: it is a folder, or cannot be accessed.
    """
    shipped = {file.name: file for file in sorted(SHIPPED.glob("*.yaml"))}
    try:
        path = beside / Path(name).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError) as error:  # no permission, too long, an unknown ~user
        raise RequestError(f"spec file {name!r} cannot be accessed: {error}") from None
    if exists and not is_folder:
        return path
    for known in (name, f"{name}.yaml"):
        if known in shipped:
            return shipped[known]
    if is_folder:
        raise RequestError(f"{name!r} is a folder, not a spec file. Shipped specs: {', '.join(shipped)}.")
    raise UnknownNameError("no spec file", name, shipped)


def read_document(name: str, errors: ErrorCollector) -> Document:
    """A spec file with what it extends. Keys are checked, and what they hold is not.

    Raises:
        UnknownNameError: there is no such file.
        RequestError: it cannot be read.
        SeveralErrors: it is no spec, or extends what does not exist, is no spec, or extends it in turn.
    """
    path = find_spec(name)
    document = _read(path, _content(path), errors, ())
    top = document.top
    if "grid" not in top.entries and "search" not in top.entries:
        errors.add(top.where, "a spec needs a grid or a search")
    return document


def _read(path: Path, text: str, errors: ErrorCollector, chain: Sequence[Path]) -> Document:
    """A file whose content was read; ``chain`` are the files that led to it."""
    top = _read_top(text, _shown(path), errors)
    if "extends" not in top.entries:
        return Document(path, text, top)
    chain = [*chain, path]
    scalar = read_text("extends", top.entries["extends"], errors)
    if scalar is None:  # everything that the other file has would be missing
        raise SeveralErrors(errors.lines)
    with errors.collect(scalar.where):
        other = find_spec(scalar.text.strip(), path.parent)
        _require_no_circle([*chain, other])
        content = _content(other)
    errors.raise_if_any()
    inherited = _read(other, content, errors, chain)
    joined = _join(top, inherited.top)
    extended = (other, *inherited.extended)
    title = f"# {path.name} with what it extends ({', '.join(_shown(each) for each in extended)}), as one file\n"
    base = top.entries.get("base")
    set_here = base.entries.keys() if isinstance(base, Section) else ()
    later = frozenset() if "grid" in top.entries else inherited.later.union(set_here)
    return Document(path, title + as_yaml(joined), joined, extended, later)


def _require_no_circle(chain: Sequence[Path]) -> None:
    resolved = [path.resolve() for path in chain]
    if resolved[-1] not in resolved[:-1]:
        return
    first = resolved.index(resolved[-1])
    names = " → ".join(_shown(path) for path in chain[first:])
    hint = ""
    if (SHIPPED / chain[-1].name).is_file():
        hint = f". To extend the {chain[-1].name} that comes with inversion, give this file another name"
    raise RequestError(f"extends is a circle: {names}{hint}")


def _join(here: Section, inherited: Section) -> Section:
    """The sections of a file and those that it inherits: those in ``MERGED`` are merged, others replaced."""
    dropped = {*NOT_INHERITED, *(name for key in here.entries for name in REPLACED_WITH.get(key, ()))}
    entries = {name: value for name, value in inherited.entries.items() if name not in dropped}
    for name, value in here.entries.items():
        if name in MERGED and name in entries:
            entries[name] = _merge(value, entries[name])
        elif _is_empty(value) and name in entries:  # removes the inherited one
            del entries[name]
        else:
            entries[name] = value
    order = [name for name in KEYS if name in entries and name != "extends"]
    return Section({name: entries[name] for name in order}, {**inherited.keys, **here.keys}, here.where)


def _merge(here: Value, inherited: Value) -> Value:
    """Two mappings as one; if one of them is none, that one, to be reported."""
    if _is_empty(here) or not (isinstance(inherited, Section) or _is_empty(inherited)):
        return inherited
    if not (isinstance(here, Section) and isinstance(inherited, Section)):
        return here
    return Section({**inherited.entries, **here.entries}, {**inherited.keys, **here.keys}, here.where)


def _is_empty(value: Value) -> bool:
    return value == Scalar("", value.where)


def _shown(path: Path) -> str:
    """A file as messages name it."""
    return path.name if path.parent == SHIPPED else visible(str(path))


def _content(path: Path) -> str:
    shown = _shown(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RequestError(f"{shown} is larger than {MAX_BYTES:,} bytes: is it a spec file?")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{shown} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{shown} is not a text file in UTF-8 (at byte {error.start})") from None


def _read_top(text: str, shown: str, errors: ErrorCollector) -> Section:
    top = read_yaml(text, lambda line: f"{shown}:{line}", errors)
    if not isinstance(top, Section):
        what = "the file is empty" if top is None else f"a spec is a mapping of {', '.join(KEYS)}"
        errors.add(f"{shown}:1" if top is None else top.where, what)
        raise SeveralErrors(errors.lines)
    check_keys(top, KEYS, "a spec has no", errors, _place_of_parameter)
    if "grid" in top.entries and "search" in top.entries:
        errors.add(top.keys["search"], f"a spec has a grid (at {top.keys['grid']}) or a search, not both")
    elif "search" in top.entries:
        for name in ("tune", "exclude"):
            if name in top.entries:
                errors.add(top.keys[name], f"{name} is for a grid, and this is a search (at {top.keys['search']})")
        if "pruner" in top.entries:
            errors.add(top.keys["pruner"], "a pruner here is for a grid; that of a search belongs in it (at "
                                           f"{top.keys['search']})")
    return top


def _place_of_parameter(name: str) -> str:
    """Where a parameter of a run belongs; empty if the name is none."""
    if meaning_of(name, SPEC_KEYS).names:
        return ""
    parameter = meaning_of(name, PARAMETERS, RunConfig.model_fields).among(RunConfig.model_fields)
    return f"{parameter} is a parameter of runs, and belongs in base, or in a block of grid" if parameter else ""
