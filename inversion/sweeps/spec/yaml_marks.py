"""YAML as it is written: the raw text of every scalar, and the line it stands in.

PyYAML would make False of ``off`` and ``no``, a number of ``2:30`` and a text of ``1e-4``, and would take the last of
two equal keys without a word. Parameters have to arrive as they would on a command line, and every message needs a
position. So only the syntax is PyYAML's (``compose``, which builds no objects), and the rest is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import yaml

from inversion.errors import SeveralErrors
from inversion.sweeps.spec.problems import Problems

DEEPEST = 6
"""Containers within each other; a spec needs five. Also ends aliases that contain themselves."""

PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{name}" for name in (
    "str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map"))


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
    """A mapping; ``keys`` says where each key stands."""

    entries: Mapping[str, Value]
    keys: Mapping[str, str]
    where: str


Value: TypeAlias = Scalar | Items | Section
Locate: TypeAlias = Callable[[int], str]
"""From a line, counted from 1, to the position that messages name."""


def read_yaml(text: str, locate: Locate, problems: Problems) -> Value | None:
    """The one document in a text; None if it is empty.

    Duplicate keys are noted as problems; the first one stands.

    Raises:
        SeveralErrors: the text is not YAML, or holds what has no place in a spec (tags, merge keys, deep nesting).
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(locate(mark.line + 1 if mark else 1), f"not YAML: {_explain(error)}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problems.add(locate(line), f"not YAML: the character {chr(error.character)!a} is not allowed")
    except RecursionError:
        problems.add(locate(1), "nested too deeply")
    problems.raise_any()
    return None if node is None else _Conversion(locate, problems).convert(node)


def _explain(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    hint = " (indent with spaces)" if "'\\t'" in (error.problem or "") else ""
    return ", ".join(parts) + hint


class _Conversion:
    """From PyYAML's nodes to ours. What an alias stands for is converted once, so aliases of aliases stay small."""

    def __init__(self, locate: Locate, problems: Problems) -> None:
        self.locate = locate
        self.problems = problems
        self.done: dict[yaml.Node, Value] = {}

    def convert(self, node: yaml.Node, depth: int = 0) -> Value:
        where = self._where(node)
        if depth > DEEPEST:
            self._refuse(where, "nested too deeply")
        if node.tag not in PLAIN_TAGS:
            self._refuse(where, f"the tag {node.tag!r} has no place in a spec: write the value alone")
        if node not in self.done:
            self.done[node] = self._converted(node, where, depth)
        return self.done[node]

    def _converted(self, node: yaml.Node, where: str, depth: int) -> Value:
        if isinstance(node, yaml.SequenceNode):
            return Items(tuple(self.convert(item, depth + 1) for item in node.value), where)
        if isinstance(node, yaml.MappingNode):
            return self._section(node, where, depth)
        return Scalar("" if node.tag.endswith(":null") else node.value, where)

    def _section(self, node: yaml.MappingNode, where: str, depth: int) -> Section:
        entries: dict[str, Value] = {}
        keys: dict[str, str] = {}
        for key_node, value_node in node.value:
            key, position = self.convert(key_node, depth + 1), self._where(key_node)
            if not isinstance(key, Scalar):
                self._refuse(position, "a list or a mapping cannot be a name")
            if key_node.tag.endswith(":merge"):
                self._refuse(position, "merge keys (<<) are not supported: write the values out, or in base")
            if key.text in entries:
                self.problems.add(position, f"{key.text} is given twice, first at {keys[key.text]}")
                continue
            keys[key.text] = position
            entries[key.text] = self.convert(value_node, depth + 1)
        return Section(entries, keys, where)

    def _where(self, node: yaml.Node) -> str:
        return self.locate(node.start_mark.line + 1)

    def _refuse(self, where: str, message: str) -> NoReturn:
        self.problems.add(where, message)
        raise SeveralErrors(self.problems.lines)
