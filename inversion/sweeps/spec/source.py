"""The text of a spec with positions: YAML whose scalars stay as written, an error collector, and typed sections.

PyYAML would turn ``off`` and ``no`` into False, ``2:30`` into a number and ``1e-4`` into a string, and would silently
keep the last of two equal keys. Parameters have to arrive as they would on a command line, and every message needs a
position. So PyYAML only parses the syntax (``compose``, which builds no objects); the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn, TypeAlias, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from inversion.errors import RequestError, SeveralErrors
from inversion.synonyms import SPEC_KEYS, unknown_name
from inversion.text import one_line

MAX_DEPTH = 6
"""Containers within each other; a spec needs five. Also stops aliases that contain themselves."""

MAX_SIMILAR = 5
"""Wrong combinations that are shown for one place."""

PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in (
    "str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map"))

_TEXT = "tag:yaml.org,2002:str"
_RESOLVER = yaml.resolver.Resolver()


class ErrorCollector:
    """Collects errors as lines ``POSITION: message``, each once, so that all of them can be shown together.

    ``causes`` are the exceptions among them.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.causes: list[RequestError] = []

    def add(self, where: str, message: str) -> None:
        """Adds an error at ``where``, such as ``grid.yaml:5, block 1``."""
        self._add_line(one_line(f"{where}: {message}"))

    def add_similar(self, where: str, messages: Sequence[str]) -> None:
        """Adds wrong combinations at one place: the first few in full, and how many more there are."""
        for message in messages[:MAX_SIMILAR]:
            self.add(where, message)
        if len(messages) > MAX_SIMILAR:
            self.add(where, f"{len(messages) - MAX_SIMILAR} more combinations are wrong in the same way")

    @contextmanager
    def collect(self, where: str | None = None) -> Iterator[None]:
        """Adds a RequestError of the body, which ends there, at ``where``; without it, as the error's own lines."""
        try:
            yield
        except RequestError as error:
            self.causes.append(error)
            for line in error.lines if isinstance(error, SeveralErrors) else [str(error)]:
                self._add_line(line if where is None else one_line(f"{where}: {line}"))

    def raise_if_any(self) -> None:
        """Raises SeveralErrors if any error was added."""
        if self.lines:
            raise SeveralErrors(self.lines)

    def _add_line(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)


@dataclass(frozen=True)
class Scalar:
    """A text; empty where nothing, ``~`` or ``null`` is written."""

    text: str
    where: str


@dataclass(frozen=True)
class Items:
    """A list."""

    values: tuple[Value, ...]
    where: str


@dataclass(frozen=True)
class Section:
    """A mapping; ``keys`` has the position of each key."""

    entries: Mapping[str, Value]
    keys: Mapping[str, str]
    where: str


Value: TypeAlias = Scalar | Items | Section


def read_yaml(text: str, locate: Callable[[int], str], errors: ErrorCollector) -> Value | None:
    """The one document in a text; None if it is empty.

    Args:
        text: YAML.
        locate: from a line, counted from 1, to the position that messages name.
        errors: gets duplicate keys, of which the first is kept.

    Raises:
        SeveralErrors: the text is not YAML, or has something that a spec may not have (tags, merge keys, deep nesting).
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = ", ".join(part for part in (error.context, error.problem) if part)
        hint = " (indent with spaces)" if "'\\t'" in (error.problem or "") else ""
        errors.add(locate(mark.line + 1 if mark else 1), f"not YAML: {message}{hint}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        errors.add(locate(line), f"not YAML: the character {chr(error.character)!a} is not allowed")
    except RecursionError:
        errors.add(locate(1), "nested too deeply")
    errors.raise_if_any()
    return None if node is None else _Converter(locate, errors).convert(node)


def as_yaml(value: Value) -> str:
    """A value as YAML, from which ``read_yaml`` reads the same, except for positions."""
    text: str = yaml.serialize(_node(value), Dumper=yaml.SafeDumper, width=110, allow_unicode=True)
    return text


def _node(value: Value) -> yaml.Node:
    if isinstance(value, Scalar):
        tag: str = _RESOLVER.resolve(yaml.ScalarNode, value.text, (True, False))  # type: ignore[no-untyped-call]
        return yaml.ScalarNode(_TEXT if tag.endswith(":null") else tag, value.text)  # null is written as '', or quoted
    if isinstance(value, Items):
        nodes = [_node(item) for item in value.values]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", nodes, flow_style=_is_flat(nodes))
    pairs = [(_node(Scalar(name, "")), _node(entry)) for name, entry in value.entries.items()]
    return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=False)


def _is_flat(nodes: Sequence[yaml.Node]) -> bool:
    return all(isinstance(node, yaml.ScalarNode) for node in nodes)


class _Converter:
    """From PyYAML's nodes to ours. The target of an alias is converted once, so aliases of aliases stay small."""

    def __init__(self, locate: Callable[[int], str], errors: ErrorCollector) -> None:
        self.locate = locate
        self.errors = errors
        self.converted: dict[yaml.Node, Value] = {}

    def convert(self, node: yaml.Node, depth: int = 0) -> Value:
        where = self._where(node)
        if depth > MAX_DEPTH:
            self._refuse(where, "nested too deeply")
        if node.tag not in PLAIN_TAGS:
            self._refuse(where, f"the tag {node.tag!r} is not allowed in a spec: write the plain value")
        if node not in self.converted:
            if isinstance(node, yaml.SequenceNode):
                value: Value = Items(tuple(self.convert(item, depth + 1) for item in node.value), where)
            elif isinstance(node, yaml.MappingNode):
                value = self._section(node, where, depth)
            else:
                value = Scalar("" if node.tag.endswith(":null") else node.value, where)
            self.converted[node] = value
        return self.converted[node]

    def _section(self, node: yaml.MappingNode, where: str, depth: int) -> Section:
        entries: dict[str, Value] = {}
        keys: dict[str, str] = {}
        for key_node, value_node in node.value:
            key, position = self.convert(key_node, depth + 1), self._where(key_node)
            if not isinstance(key, Scalar):
                self._refuse(position, "a list or a mapping cannot be a key")
            if key_node.tag.endswith(":merge"):
                self._refuse(position, "merge keys (<<) are not supported: repeat the values, or put them into base")
            if key.text in entries:
                self.errors.add(position, f"duplicate key {key.text}, first at {keys[key.text]}")
                continue
            keys[key.text] = position
            entries[key.text] = self.convert(value_node, depth + 1)
        return Section(entries, keys, where)

    def _where(self, node: yaml.Node) -> str:
        return self.locate(node.start_mark.line + 1)

    def _refuse(self, where: str, message: str) -> NoReturn:
        self.errors.add(where, message)
        raise SeveralErrors(self.errors.lines)


M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """A section whose values are read from texts; derive from it, with a field for each key of the section."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


def check_keys(section: Section, known: Iterable[str], what: str, errors: ErrorCollector,
               elsewhere: Callable[[str], str] = lambda name: "") -> None:
    """Adds an error, with the nearest match, for every key that is not known.

    ``elsewhere`` says of a key that belongs to another place where that is, and nothing of others.
    """
    names = list(known)
    for name in section.entries:
        if name not in names and (place := elsewhere(name)):
            errors.add(section.keys[name], f"{what} {name!r}: {place}")
        elif name not in names:
            errors.add(section.keys[name], str(unknown_name(what, name, names, SPEC_KEYS)))


def read_text(name: str, value: Value, errors: ErrorCollector) -> Scalar | None:
    """The value as a text that is not empty; None, and an error, if it is anything else."""
    if isinstance(value, Scalar) and value.text.strip():
        return value
    kind = "nothing" if isinstance(value, Scalar) else "a list" if isinstance(value, Items) else "a mapping"
    errors.add(value.where, f"{name}: expected a single value, got {kind}")
    return None


def read_settings(model: type[M], section: Section, what: str, errors: ErrorCollector) -> M | None:
    """The section as ``model``; None, and errors, if its values are wrong.

    ``what`` names in messages what the values belong to, such as ``sampler tpe``.
    """
    check_keys(section, model.model_fields, f"{what} has no option", errors)
    texts = {name: read_text(name, value, errors) for name, value in section.entries.items()}
    given = {name: scalar.text for name, scalar in texts.items() if scalar and name in model.model_fields}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        for detail in error.errors():
            name, message = "".join(map(str, detail["loc"][:1])), detail["msg"].removeprefix("Value error, ")
            if name in given:
                errors.add(section.entries[name].where, f"{name}: {given[name]!r} is not allowed. {message}.")
            elif not name:
                errors.add(section.where, f"{what}: {message}")
            elif name not in section.entries:
                errors.add(section.where, f"{what} needs {name}")
    return None
