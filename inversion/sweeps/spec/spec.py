"""Spec files: from a name to checked run configurations or a search, and checks that their inputs exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import inversion
from inversion.config.resolve import input_checks
from inversion.config.run_config import RunConfig
from inversion.errors import (
    DataError,
    FallbackRefusedError,
    RequestError,
    SeveralErrors,
    UnknownNameError,
    WeightsError,
)
from inversion.models.decoders import decoders
from inversion.sweeps.spec.grid import Configuration, expand, read_base, read_blocks
from inversion.sweeps.spec.overrides import (
    Override,
    check_sets,
    read_sets,
    read_wheres,
    select,
    set_in_base,
    set_in_blocks,
)
from inversion.sweeps.spec.search import Choices, Search
from inversion.sweeps.spec.search_section import read_search
from inversion.sweeps.spec.source import ErrorCollector, Scalar, Section, Value, check_keys, read_text, read_yaml
from inversion.sweeps.spec.tuning import read_tuning
from inversion.synonyms import PARAMETERS, SPEC_KEYS, meaning_of
from inversion.text import visible

_FOLDERS = (Path(inversion.__file__).parents[1] / "sweeps", Path(__file__).parents[1] / "studies")
SHIPPED = next((folder for folder in _FOLDERS if (folder / "grid.yaml").is_file()), _FOLDERS[1])
"""The study files that come with the project: ``sweeps/`` of a clone, ``inversion/sweeps/studies`` of a wheel."""

KEYS = ("study", "base", "grid", "tune", "search")
MAX_BYTES = 1_000_000

OFFLINE = ("nothing was queued. To run without any download: inversion-sweep smoke.yaml, or this study on "
           "the bundled images with --set data=sample --set weights=random --set lpips_weights=off")
"""What to run instead if weights or images are unavailable."""


@dataclass(frozen=True)
class Spec:
    """A checked spec: the runs of a grid in the order of the file, or a search.

    Attributes:
        study: name of the study.
        path: the file that was read, and ``text`` its content.
        base: the parameters that all runs share, with ``--set`` applied; ``strict`` is true unless the spec says
            otherwise.
        configurations: the runs of a grid; empty for a search.
        sets: the texts of ``--set``, and ``wheres`` those of ``--where``.
        tuned: the parameters that are tuned for each configuration of a grid; every value is among the configurations.
    """

    study: str
    path: Path
    text: str
    base: dict[str, str]
    configurations: tuple[Configuration, ...]
    search: Search | None
    sets: tuple[str, ...] = ()
    wheres: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()

    @cached_property
    def configs(self) -> list[RunConfig]:
        """The configurations that determine the spec's inputs: all runs of a grid; of a search, one for each encoder
        and one for each decoder from outside this package.
        """
        search = self.search
        if search is None:
            return [each.config for each in self.configurations]
        example, space = search.example(), search.space
        encoders = space["encoder"].extremes() if "encoder" in space else [None]
        points = [{"encoder": encoder} if encoder else {} for encoder in encoders]
        points += [{"decoder": name} for name in self._searched_decoders if decoders.is_outside(name)]
        return [search.configure(self.base, example | point) for point in points]

    @property
    def parts(self) -> set[str]:
        """The names of all parts that can be from outside this package."""
        return {part for config in self.configs for part in config.parts} | set(self._searched_decoders)

    @property
    def _searched_decoders(self) -> tuple[str, ...]:
        choices = self.search.space.get("decoder") if self.search else None
        return choices.choices if isinstance(choices, Choices) else ()


def find_spec(name: str) -> Path:
    """The spec file at a path, or else the shipped one of that name (``grid.yaml`` or ``grid``).

    Raises:
        UnknownNameError: there is neither.
        RequestError: it is a folder, or cannot be accessed.
    """
    shipped = {file.name: file for file in sorted(SHIPPED.glob("*.yaml"))}
    try:
        path = Path(name).expanduser()
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


def load_spec(name: str, sets: Sequence[str] = (), wheres: Sequence[str] = (), study: str | None = None) -> Spec:
    """Reads and checks a spec.

    Args:
        name: a path, or the name of a shipped spec.
        sets: values of ``--set``, such as ``seed=[0, 1]``.
        wheres: values of ``--where``, such as ``decoder=wavelet``.
        study: replaces the study's name.

    Raises:
        UnknownNameError: there is no such file.
        RequestError: the file cannot be read.
        SeveralErrors: everything that is wrong in it, each line with its position.
    """
    path = find_spec(name)
    shown = path.name if path.parent == SHIPPED else visible(str(path))
    text = _read_file(path, shown)
    errors = ErrorCollector()
    top = _read_top(text, shown, errors)
    title = _read_study(top, study, errors)
    set_overrides, where_overrides = read_sets(sets, errors), read_wheres(wheres, errors)
    base = {"strict": Scalar("true", "default")} | read_base(top.entries.get("base"), errors)
    configurations: list[Configuration] = []
    search = tuning = None
    if "search" in top.entries:
        base = set_in_base(base, set_overrides)
        search = _read_search(top.entries["search"], base, set_overrides, where_overrides, errors)
    elif "grid" in top.entries:
        blocks = read_blocks(top.entries["grid"], errors)
        set_overrides = check_sets(blocks, set_overrides, errors)
        base = set_in_base(base, set_overrides)
        blocks = set_in_blocks(blocks, set_overrides)
        if "tune" in top.entries and (tuning := read_tuning(top.entries["tune"], base, blocks, errors)):
            blocks = tuning.apply(blocks)
        configurations = expand(top.keys["grid"], base, blocks, errors)
    errors.raise_if_any()  # runs are selected from a valid grid only
    configurations = select(configurations, where_overrides, errors)
    errors.raise_if_any()
    texts = {parameter: scalar.text for parameter, scalar in base.items()}
    return Spec(title, path, text, texts, tuple(configurations), search, tuple(sets), tuple(wheres),
                tuning.names if tuning else ())


def check_study(name: str) -> str:
    """Returns the name if it is a valid name of a study.

    Raises:
        SeveralErrors: it has other characters, or is too long.
    """
    errors = ErrorCollector()
    _check_title(name, f"--study {name}", errors)
    errors.raise_if_any()
    return name


class InputErrors(ErrorCollector):
    """Errors of inputs. If images or weights are unavailable, the last line says what to run instead."""

    def raise_if_any(self) -> None:
        if any(isinstance(error, DataError | WeightsError | FallbackRefusedError) for error in self.causes):
            raise SeveralErrors([*self.lines, OFFLINE])
        super().raise_if_any()


def require_inputs(spec: Spec) -> None:
    """Checks that the folders and files named by the spec exist, before anything slow is imported.

    What would have to be downloaded (DIV2K, ImageNet weights) is checked later, when the study is queued.

    Raises:
        SeveralErrors: some do not.
    """
    errors = InputErrors()
    distinct = {(config.encoder, config.weights, config.lpips_weights, config.data, config.data_dir): config
                for config in spec.configs}
    for config in distinct.values():
        if config.data == "div2k":
            config = config.model_copy(update={"data": "auto"})
        for check_input in input_checks(config):
            with errors.collect():
                check_input()
    errors.raise_if_any()


def _read_search(value: Value, base: dict[str, Scalar], sets: Sequence[Override], wheres: Sequence[Override],
                 errors: ErrorCollector) -> Search | None:
    for override in sets:
        if override.is_axis:
            errors.add(override.where, "an axis is for a grid; a search has choices in its space")
    for override in wheres:
        errors.add(override.where, "--where selects runs of a grid, and this is a search; use --set")
    return read_search(value, base, errors)


def _read_file(path: Path, shown: str) -> str:
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
    elif "search" in top.entries and "tune" in top.entries:
        errors.add(top.keys["tune"], f"tune is for a grid, and this is a search (at {top.keys['search']})")
    elif "grid" not in top.entries and "search" not in top.entries:
        errors.add(top.where, "a spec needs a grid or a search")
    return top


def _place_of_parameter(name: str) -> str:
    """Where a parameter of a run belongs; empty if the name is none."""
    if meaning_of(name, SPEC_KEYS).names:
        return ""
    parameter = meaning_of(name, PARAMETERS, RunConfig.model_fields).among(RunConfig.model_fields)
    return f"{parameter} is a parameter of runs, and belongs in base, or in a block of grid" if parameter else ""


def _read_study(top: Section, replacement: str | None, errors: ErrorCollector) -> str:
    title = replacement or ""
    if "study" in top.entries:
        if scalar := read_text("study", top.entries["study"], errors):
            _check_title(scalar.text, scalar.where, errors)
            title = replacement or scalar.text
    elif replacement is None:
        errors.add(top.where, "a spec needs a study: the name of the MLflow parent run and of the Optuna study")
    if replacement is not None:
        _check_title(replacement, f"--study {replacement}", errors)
    return title


def _check_title(title: str, where: str, errors: ErrorCollector) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", title):
        errors.add(where, f"study: {title!r} is not a valid name: it begins with a letter or digit, and has only "
                          "letters, digits and . _ - (at most 100)")
