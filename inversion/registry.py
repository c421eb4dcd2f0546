"""Names for interchangeable parts: one file and one decorator each.

A registry belongs to a package. Every module of that package whose name does not begin with an underscore holds one
part of the same name, so the names are known without importing anything (PyTorch takes seconds); a part's module is
imported when the part is first asked for.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from inversion.synonyms import PARTS, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """The parts of one kind (``"decoder"``) that live in one package (``"inversion.models.decoders"``)."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._parts: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that gives a part its name.

        Raises:
            ValueError: the name is taken, or the module is not called like the part.
        """

        def decorate(part: T) -> T:
            module = getattr(part, "__module__", "")
            if name in self._parts:
                raise ValueError(f"{self.kind} {name!r} is registered twice (again in {module})")
            if module.startswith(self.package) and module != f"{self.package}.{name}":
                raise ValueError(f"{self.kind} {name!r} must live in {self.package}.{name}, not in {module}")
            self._parts[name] = part
            return part

        return decorate

    def names(self) -> list[str]:
        """All names, in alphabetical order, without importing the parts."""
        modules = (module.name for module in pkgutil.iter_modules([str(self._folder())]))
        return sorted({name for name in modules if not name.startswith("_")} | set(self._parts))

    def check(self, name: str) -> None:
        """Raises UnknownNameError if there is no part of that name."""
        if name not in self.names():
            raise unknown_name(f"unknown {self.kind}", name, self.names(), PARTS.get(self.kind, {}))

    def get(self, name: str) -> T:
        """The part called ``name``; its module is imported now if it was not before.

        Raises:
            UnknownNameError: there is none.
        """
        self.check(name)
        if name not in self._parts:
            importlib.import_module(f"{self.package}.{name}")
        return self._parts[name]

    def forget(self, name: str) -> None:
        """Takes a part out again that was registered from outside the package."""
        del self._parts[name]

    def summary(self, name: str) -> str:
        """The first line of the part's module docstring, read without importing the module."""
        source = self._folder() / f"{name}.py"
        if not source.is_file():  # registered by somebody else's code
            return (self._parts[name].__doc__ or "").strip().partition("\n")[0]
        return (ast.get_docstring(ast.parse(source.read_text("utf-8"))) or "").partition("\n")[0]

    def mentions(self, name: str, word: str) -> bool:
        """Whether the source of the part's module has a word in it; assumed of a part of somebody else's code."""
        source = self._folder() / f"{name}.py"
        return word in source.read_text("utf-8") if source.is_file() else True

    def _folder(self) -> Path:
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise ValueError(f"{self.package} is not a package with files")
        return Path(spec.origin).parent
