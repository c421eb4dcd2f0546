"""Spec files: from YAML to run configurations that were checked one by one, or to a search.

Nothing here needs PyTorch, MLflow or Optuna: a spec is read, checked and shown in well under a second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import inversion
from inversion.errors import RequestError, UnknownNameError
from inversion.sweeps.spec.grid import Configuration, expand, read_base, read_blocks
from inversion.sweeps.spec.overrides import (
    Choice,
    Setting,
    clear_settings,
    keep,
    read_choices,
    read_settings,
    set_in_base,
    set_in_blocks,
)
from inversion.sweeps.spec.problems import Problems
from inversion.sweeps.spec.search import Search
from inversion.sweeps.spec.search_section import read_search
from inversion.sweeps.spec.sections import check_names, read_text
from inversion.sweeps.spec.yaml_marks import Scalar, Section, Value, read_yaml
from inversion.text import visible

__all__ = ["Configuration", "Search", "Spec", "check_study", "find_spec", "load_spec"]

_FOLDERS = (Path(inversion.__file__).parents[1] / "sweeps", Path(__file__).parents[1] / "studies")
SHIPPED = next((folder for folder in _FOLDERS if (folder / "grid.yaml").is_file()), _FOLDERS[1])
"""The study files that come with the project: ``sweeps/`` of a clone, ``inversion/sweeps/studies`` of a wheel."""
KEYS = ("study", "base", "grid", "search")
MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class Spec:
    """A checked spec: the runs of a grid in the order of the file, or a search.

    ``path`` is the file that was taken and ``text`` its content. ``base`` has the parameters that all runs share, after
    ``--set``, with ``strict`` true unless something else was asked for. ``sets`` and ``wheres`` are what the command
    line said beside the file.
    """

    study: str
    path: Path
    text: str
    base: dict[str, str]
    configurations: tuple[Configuration, ...]
    search: Search | None
    sets: tuple[str, ...] = ()
    wheres: tuple[str, ...] = ()


def find_spec(name: str) -> Path:
    """The spec file at a path, or else the one of that name that is shipped (``grid.yaml`` or ``grid``).

    Raises:
        UnknownNameError: there is neither.
        RequestError: it is a folder, or cannot be looked at.
    """
    shipped = {file.name: file for file in sorted(SHIPPED.glob("*.yaml"))}
    try:
        path = Path(name).expanduser()
        exists, is_folder = path.exists(), path.is_dir()
    except (OSError, RuntimeError) as error:  # no permission, too long, an unknown ~user
        raise RequestError(f"spec file {name!r} cannot be looked for: {error}") from None
    if exists and not is_folder:
        return path
    for known in (name, f"{name}.yaml"):
        if known in shipped:
            return shipped[known]
    if is_folder:
        raise RequestError(f"{name!r} is a folder, not a spec file. Shipped specs: {', '.join(shipped)}.")
    raise UnknownNameError("no spec file", name, shipped)


def load_spec(name: str, sets: Sequence[str] = (), wheres: Sequence[str] = (), study: str | None = None) -> Spec:
    """Reads and checks a spec. ``sets`` and ``wheres`` are texts ``name=value``, ``study`` is another name for it.

    Raises:
        UnknownNameError: there is no such file.
        RequestError: the file cannot be read.
        SeveralErrors: everything that is wrong in it, each line with its position.
    """
    path = find_spec(name)
    shown = path.name if path.parent == SHIPPED else visible(str(path))
    text = _read(path, shown)
    problems = Problems()
    top = _top(text, shown, problems)
    title = _study(top, study, problems)
    settings = read_settings(sets, problems)
    choices = read_choices(wheres, problems)
    base = {"strict": Scalar("true", "default")} | read_base(top.entries.get("base"), problems)
    configurations: list[Configuration] = []
    search = None
    if "search" in top.entries:
        base = set_in_base(base, settings)
        search = _search(top.entries["search"], base, settings, choices, problems)
    elif "grid" in top.entries:
        blocks = read_blocks(top.entries["grid"], problems)
        settings = clear_settings(blocks, settings, problems)
        base = set_in_base(base, settings)
        configurations = expand(top.keys["grid"], base, set_in_blocks(blocks, settings), problems)
    problems.raise_any()  # what a wrong grid has is nothing to choose from
    configurations = keep(configurations, choices, problems)
    problems.raise_any()
    texts = {parameter: scalar.text for parameter, scalar in base.items()}
    return Spec(title, path, text, texts, tuple(configurations), search, tuple(sets), tuple(wheres))


def _search(
    value: Value, base: dict[str, Scalar], settings: list[Setting], choices: list[Choice], problems: Problems
) -> Search | None:
    for setting in settings:
        if setting.is_axis:
            problems.add(setting.where, "an axis is for a grid; a search has choices in its space")
    for choice in choices:
        problems.add(choice.where, "--where keeps a part of a grid, and this is a search; use --set")
    return read_search(value, base, problems)


def _read(path: Path, shown: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise RequestError(f"{shown} is larger than {MOST_BYTES:,} bytes: is it a spec file?")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"{shown} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{shown} is not a text file in UTF-8 (at byte {error.start})") from None


def _top(text: str, shown: str, problems: Problems) -> Section:
    top = read_yaml(text, lambda line: f"{shown}:{line}", problems)
    if not isinstance(top, Section):
        what = "the file is empty" if top is None else f"a spec is a mapping of {', '.join(KEYS)}"
        problems.add(f"{shown}:1" if top is None else top.where, what)
        problems.raise_any()
        return Section({}, {}, shown)
    check_names(top, KEYS, "a spec has no", problems)
    if "grid" in top.entries and "search" in top.entries:
        problems.add(top.keys["search"], f"a spec has a grid (at {top.keys['grid']}) or a search, not both")
    elif "grid" not in top.entries and "search" not in top.entries:
        problems.add(top.where, "a spec needs a grid or a search")
    return top


def _study(top: Section, other: str | None, problems: Problems) -> str:
    title = other or ""
    if "study" in top.entries:
        if scalar := read_text("study", top.entries["study"], problems):
            _check_title(scalar.text, scalar.where, problems)
            title = other or scalar.text
    elif other is None:
        problems.add(top.where, "a spec needs a study: the name of the MLflow parent run and of the Optuna study")
    if other is not None:
        _check_title(other, f"--study {other}", problems)
    return title


def check_study(name: str) -> str:
    """A name, if a study can have it; raises SeveralErrors otherwise."""
    problems = Problems()
    _check_title(name, f"--study {name}", problems)
    problems.raise_any()
    return name


def _check_title(title: str, where: str, problems: Problems) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", title):
        problems.add(where, f"study: {title!r} is not a name: letters, digits and . _ - are allowed (at most 100), and "
                            "it begins with a letter or digit")
