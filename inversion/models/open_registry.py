"""Parts from outside this package: in a file of the user's own, or in an installed package."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from inversion.errors import RequestError
from inversion.models import part_code, part_files
from inversion.registry import Registry
from inversion.text import reason

T = TypeVar("T")


class OutsideParts(Generic[T]):
    """The parts of one kind from outside: ``FILE.py:NAME``, and those of installed packages.

    An installed package declares its parts as entry points of the group ``inversion.KINDs``. The full name of such a
    part, ``fancy@1.2.0``, has the version of the package that provides it: another version is another part. In it, a
    local version is written with ``_`` (``fancy@1.2.0_cu124``), since ``+`` joins encoders.

    Args:
        kind: ``"decoder"``.
        adapt: makes a part of what is found outside, from its name and the class or function.
        ours: the names of the parts of this package, which entry points cannot have.
        group: the group of entry points, if the plural of the kind is not ``KINDs``.
    """

    def __init__(self, kind: str, adapt: Callable[[str, Any], T], ours: Callable[[], Collection[str]],
                 group: str = "") -> None:
        self.kind = kind
        self._group = group or f"inversion.{kind}s"
        self.adapt = functools.cache(adapt)
        self._ours = ours

    def names(self) -> list[str]:
        """The names of the installed parts, in alphabetical order."""
        return sorted(self._installed())

    def __contains__(self, name: str) -> bool:
        """Whether a name is that of a part in a file or in an installed package."""
        return part_files.is_reference(name) or (name.partition("@")[0] in self._installed()
                                                 and name not in self._ours())

    def full_name(self, name: str) -> str:
        """The name under which a part is logged; nothing is imported or executed.

        Raises:
            RequestError: the file cannot be used, or the package is installed in another version.
        """
        if part_files.is_reference(name):
            return part_code.full_name(name, self.kind)
        short, _, version = name.partition("@")
        provider, installed = _provider(self._installed()[short])
        if version.replace("_", "+") not in ("", installed):
            raise RequestError(f"{self.kind} {name!r} is of version {version} of {provider}, and {installed} is "
                               f"installed here: pip install {provider}=={version}, or train with {short!r}")
        return f"{short}@{installed.replace('+', '_')}"

    def get(self, name: str) -> T:
        """The part; its file or module is executed now if it was not before.

        Raises:
            RequestError: as for ``full_name``, or its code fails.
        """
        full = self.full_name(name)
        return self.adapt(full, part_code.load(full, self.kind) if part_files.is_reference(full)
                          else self._load(full.partition("@")[0]))

    def summary(self, name: str) -> str:
        """What the part is, in a line, without executing it."""
        if part_files.is_reference(name):
            return part_code.summary(name, self.kind)
        found = self._installed()[name.partition("@")[0]]
        return f"{found.value}, of the package {found.dist.name} {found.dist.version}." if found.dist else found.value

    def packages_of(self, name: str) -> set[str]:
        """The packages, by their names on PyPI, that a part needs; of a name that is not from outside, none."""
        if part_files.is_reference(name):
            return part_code.packages_of(part_files.parse_reference(name, self.kind))
        found = self._installed().get(name.partition("@")[0])
        return {found.dist.name} if found and found.dist else set()

    def _load(self, name: str) -> Any:
        found = self._installed()[name]
        try:
            return found.load()
        except Exception as error:
            raise RequestError(f"{self.kind} {name!r} ({found.value} of {found.dist.name if found.dist else '?'}) "
                               f"cannot be imported: {type(error).__name__}: {reason(error)}") from error

    def _installed(self) -> dict[str, EntryPoint]:
        """The entry points of the kind, except those that have the name of a part of ours."""
        ours = self._ours()
        return {found.name: found for found in _entry_points(self._group) if found.name not in ours}


class OpenRegistry(Registry[T]):
    """The parts of one kind: those of a package of ours, and those from outside (``OutsideParts``).

    Args:
        kind: ``"decoder"``.
        package: ``"inversion.models.decoders"``.
        adapt: makes a part of what is found outside, from its name and the class or function.
    """

    def __init__(self, kind: str, package: str, adapt: Callable[[str, Any], T]) -> None:
        super().__init__(kind, package)
        self.outside = OutsideParts(kind, adapt, self.ours)

    def ours(self) -> list[str]:
        """The names of the parts of this package, in alphabetical order."""
        return super().names()

    def names(self) -> list[str]:
        return sorted({*super().names(), *self.outside.names()})

    def is_outside(self, name: str) -> bool:
        """Whether a name is that of a part in a file or in an installed package."""
        return name in self.outside

    def full_name(self, name: str) -> str:
        """The name under which a part is logged; nothing is imported or executed.

        Raises:
            UnknownNameError: there is no such part.
            RequestError: the file cannot be used, or the package is installed in another version.
        """
        if name in self.outside:
            return self.outside.full_name(name)
        super().check(name)
        return name

    def check(self, name: str) -> None:
        self.full_name(name)

    def get(self, name: str) -> T:
        return self.outside.get(name) if name in self.outside else super().get(name)

    def summary(self, name: str) -> str:
        return self.outside.summary(name) if name in self.outside else super().summary(name)

    def mentions(self, name: str, word: str) -> bool:
        return name in self.outside or super().mentions(name, word)


def _provider(found: EntryPoint) -> tuple[str, str]:
    """Name and version of the package that declares an entry point."""
    return (found.dist.name, found.dist.version) if found.dist else ("unknown", "unknown")


@functools.cache
def _entry_points(group: str) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))
