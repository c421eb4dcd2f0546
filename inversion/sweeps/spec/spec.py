"""Spec files: from a name to checked run configurations or a search, and checks that their inputs exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from inversion.config.labels import check_comment, check_tag
from inversion.config.parts import OUTSIDE
from inversion.config.resolve import input_checks
from inversion.config.run_config import RunConfig
from inversion.errors import DataError, FallbackRefusedError, SeveralErrors, WeightsError
from inversion.sweeps.spec.conditions import exclude, read_exclude
from inversion.sweeps.spec.documents import Document, read_document
from inversion.sweeps.spec.grid import Block, Configuration, expand, read_base, read_blocks, require_valid
from inversion.sweeps.spec.limits import Limits, read_limits
from inversion.sweeps.spec.overrides import (
    Override,
    check_sets,
    read_sets,
    read_wheres,
    select,
    set_in_base,
    set_in_blocks,
)
from inversion.sweeps.spec.pruning import read_pruner
from inversion.sweeps.spec.search import Algorithm, Choices, Search
from inversion.sweeps.spec.search_section import read_search
from inversion.sweeps.spec.source import ErrorCollector, Scalar, Section, Value, read_text
from inversion.sweeps.spec.tuning import read_tuning

OFFLINE = ("nothing was queued. To run without any download: inversion-sweep smoke.yaml, or this study on "
           "the bundled images with --set data=sample --set weights=random --set lpips_weights=off")
"""What to run instead if weights or images are unavailable."""


@dataclass(frozen=True)
class Spec:
    """A checked spec: the runs of a grid in the order of the file, or a search.

    Attributes:
        study: name of the study.
        path: the file that was read, and ``text`` its content, with that of the file that it extends.
        base: the parameters that all runs share, with ``--set`` applied; ``strict`` is true unless the spec says
            otherwise.
        configurations: the runs of a grid; empty for a search.
        sets: the texts of ``--set``, and ``wheres`` those of ``--where``.
        extended: the files that it extends, the nearest first.
        labels: tags for the study and its runs, with those of the command (``config.labels``).
        tuned: the parameters that are tuned for each configuration of a grid; every value is among the configurations.
        limits: what each run may use.
        pruner: stops runs of a grid early; None if nothing does. A search has its own.
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
    extended: tuple[Path, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    pruner: Algorithm | None = None

    @property
    def origin(self) -> str:
        """Where it was read from, for people."""
        return str(self.path) + "".join(f", which extends {path}" for path in self.extended)

    @cached_property
    def configs(self) -> list[RunConfig]:
        """The configurations that determine the spec's inputs: all runs of a grid; of a search, one for each encoder
        and one for each fusion, decoder and loss from outside this package.
        """
        search = self.search
        if search is None:
            return [each.config for each in self.configurations]
        example, space = search.example(), search.space
        encoders = space["encoder"].extremes() if "encoder" in space else [None]
        points = [{"encoder": encoder} if encoder else {} for encoder in encoders]
        points += [{name: choice} for name in ("fusion", "decoder", "loss")
                   if isinstance(choices := space.get(name), Choices)
                   for choice in choices.choices if choice in OUTSIDE[name]]
        return [search.configure(self.base, example | point) for point in points]

    @property
    def parts(self) -> set[str]:
        """The names of all parts that can be from outside this package."""
        searched = self.search.parts if self.search else set()
        return searched | {part for config in self.configs for part in config.parts}


def load_spec(name: str, sets: Sequence[str] = (), wheres: Sequence[str] = (), study: str | None = None,
              labels: Mapping[str, str] | None = None) -> Spec:
    """Reads and checks a spec.

    Args:
        name: a path, or the name of a shipped spec.
        sets: values of ``--set``, such as ``seed=[0, 1]``.
        wheres: values of ``--where``, such as ``decoder=wavelet``.
        study: replaces the study's name.
        labels: tags for the study and its runs, which replace those of the file (``config.labels``).

    Raises:
        UnknownNameError: there is no such file.
        RequestError: the file cannot be read.
        SeveralErrors: everything that is wrong in it, each line with its position.
    """
    errors = ErrorCollector()
    document = read_document(name, errors)
    top = document.top
    title = _read_study(document, study, errors)
    set_overrides, where_overrides = read_sets(sets, errors), read_wheres(wheres, errors)
    limits = read_limits(top.entries.get("limits"), errors)
    all_labels = {**_read_labels(top, errors), **(labels or {})}
    base = {"strict": Scalar("true", "default")} | read_base(top.entries.get("base"), errors)
    configurations: list[Configuration] = []
    search = tuning = pruner = None
    if "search" in top.entries:
        base = set_in_base(base, set_overrides)
        search = _read_search(top.entries["search"], base, set_overrides, where_overrides, errors)
    elif "grid" in top.entries:
        blocks = read_blocks(top.entries["grid"], errors)
        _require_effect(document.later, base, blocks, errors)
        conditions = read_exclude(top.entries.get("exclude"), errors)
        set_overrides = check_sets(blocks, set_overrides, errors)
        base = set_in_base(base, set_overrides)
        blocks = set_in_blocks(blocks, set_overrides)
        if "tune" in top.entries and (tuning := read_tuning(top.entries["tune"], base, blocks, errors)):
            blocks = tuning.apply(blocks)
        configurations = expand(top.keys["grid"], base, blocks, errors)
        if conditions and not errors.lines:
            configurations = exclude(configurations, conditions, top.keys["exclude"], errors)
        require_valid(configurations, errors)
        pruner = read_pruner(top, configurations, errors)
    errors.raise_if_any()  # runs are selected from a valid grid only
    configurations = select(configurations, where_overrides, errors)
    errors.raise_if_any()
    texts = {parameter: scalar.text for parameter, scalar in base.items()}
    return Spec(title, document.path, document.text, texts, tuple(configurations), search, tuple(sets), tuple(wheres),
                tuning.names if tuning else (), document.extended, all_labels, limits, pruner)


def _require_effect(later: AbstractSet[str], base: Mapping[str, Scalar], blocks: Sequence[Block], errors: ErrorCollector
                    ) -> None:
    """Adds errors for parameters of ``base`` that a file sets beside an inherited grid which overrides them."""
    for name in sorted(later & base.keys()):
        if blocks and all(name in block.axes for block in blocks):
            errors.add(base[name].where, f"{name} in base has no effect: the inherited grid has its own, at "
                                         f"{blocks[0].where}. Give this file its own grid, or use --set or --where.")


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


def _read_labels(top: Section, errors: ErrorCollector) -> dict[str, str]:
    """The tags and the comment of the file; wrong ones are left out."""
    labels: dict[str, str] = {}
    tags = top.entries.get("tags", Section({}, {}, top.where))
    if not isinstance(tags, Section):
        errors.add(tags.where, "tags is a mapping of keys to values, as in tags: {campaign: spring}")
        tags = Section({}, {}, top.where)
    for key, value in tags.entries.items():
        if scalar := read_text(f"the tag {key}", value, errors):
            with errors.collect(tags.keys[key]):
                labels |= [check_tag(key, scalar.text.strip())]
    if "comment" in top.entries and (scalar := read_text("comment", top.entries["comment"], errors)):
        with errors.collect(scalar.where):
            labels |= check_comment(scalar.text)
    return labels


def _read_study(document: Document, replacement: str | None, errors: ErrorCollector) -> str:
    top, title = document.top, replacement or ""
    if "study" in top.entries:
        if scalar := read_text("study", top.entries["study"], errors):
            _check_title(scalar.text, scalar.where, errors)
            title = replacement or scalar.text
    elif replacement is None:
        errors.add(top.where, "a spec needs a study: the name of the MLflow parent run and of the Optuna study"
                              f"{', which is not inherited' if document.extended else ''}")
    if replacement is not None:
        _check_title(replacement, f"--study {replacement}", errors)
    return title


def _check_title(title: str, where: str, errors: ErrorCollector) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", title):
        errors.add(where, f"study: {title!r} is not a valid name: it begins with a letter or digit, and has only "
                          "letters, digits and . _ - (at most 100)")
