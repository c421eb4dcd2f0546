"""A set of photographs: names and paths in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from inversion.data.content import Place
from inversion.seeds import derive_seed

T = TypeVar("T")

SPLITS = ("train", "val", "test")

SPLIT_SEED = 42
"""Seed of every split. It does not depend on the run's seed, so that all runs have the same test photographs."""


class Photo(NamedTuple):
    """One photograph: its name within the set (with ``/`` between folders) and where its bytes are."""

    name: str
    path: Place


@dataclass(frozen=True)
class PhotoSet:
    """Photographs for training, validation and test, not decoded yet.

    Attributes:
        name: ``sample``, ``div2k``, or the name of a folder, of shards or of a Hugging Face dataset.
        root: the folder that contains the photographs, or the files that they are packed into.
        data: the value of the parameter ``data`` that finds the set from any folder.
        splits: the photographs of ``train``, ``val`` and ``test``; a limit takes the first ones.
        crops_per_image: random crops of each training photograph per epoch.
        note: a caveat about scores on this set; empty if there is none.
        ignored: files with an unsupported extension, as names relative to the root.
        warnings: problems that do not make the set unusable, one line each.
        remarks: how the folder was interpreted and which files are not used, one line each.
    """

    name: str
    root: Path
    data: str
    splits: dict[str, list[Photo]]
    crops_per_image: int = 1
    note: str = ""
    ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Remarks, warnings and note, in the order in which they are shown."""
        return [*self.remarks, *self.warnings, *([self.note] if self.note else [])]


def permuted(items: Sequence[T]) -> list[T]:
    """The items in a random order by SPLIT_SEED; it comes from SHA-256 and so does not depend on library versions."""
    order = sorted(range(len(items)), key=lambda index: derive_seed(SPLIT_SEED, "split", index))
    return [items[index] for index in order]


def hold_out(photos: Sequence[T]) -> tuple[list[T], list[T]]:
    """Splits at least two training photographs 4 : 1 into train and val, at random by SPLIT_SEED."""
    mixed, held_out = permuted(photos), max(1, len(photos) // 5)
    return mixed[held_out:], mixed[:held_out]
