"""Everything that is wrong with a spec or out of its reach, one line each, so that it can be told at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from inversion.errors import RequestError, SeveralErrors
from inversion.text import one_line

MOST_ALIKE = 5


class Problems:
    """Collects lines ``POSITION: message``; the same line is told once. ``errors`` are those that lines come from."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: list[RequestError] = []

    def add(self, where: str, message: str) -> None:
        """Notes a problem at ``where``, such as ``grid.yaml:5, block 1``."""
        self._tell(one_line(f"{where}: {message}"))

    def add_alike(self, where: str, messages: Sequence[str]) -> None:
        """Notes combinations that are wrong at one place: the first few in full, and how many more there are."""
        for message in messages[:MOST_ALIKE]:
            self.add(where, message)
        if len(messages) > MOST_ALIKE:
            self.add(where, f"{len(messages) - MOST_ALIKE} more combinations are wrong like these")

    @contextmanager
    def told_at(self, where: str) -> Iterator[None]:
        """Notes a RequestError of the body as a problem at ``where``, and goes on after the body."""
        try:
            yield
        except RequestError as error:
            self.errors.append(error)
            self.add(where, str(error))

    @contextmanager
    def told(self) -> Iterator[None]:
        """The same for an error that says itself what it is about."""
        try:
            yield
        except RequestError as error:
            self.errors.append(error)
            for line in error.lines if isinstance(error, SeveralErrors) else [str(error)]:
                self._tell(line)

    def raise_any(self) -> None:
        """Raises SeveralErrors if anything was noted."""
        if self.lines:
            raise SeveralErrors(self.lines)

    def _tell(self, line: str) -> None:
        if line not in self.lines:
            self.lines.append(line)
