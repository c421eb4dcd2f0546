"""What a set of photographs is: names and paths in three splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from inversion.seeds import derive_seed

T = TypeVar("T")

SPLITS = ("train", "val", "test")

SPLIT_SEED = 42
"""Seed of every split: the study's, and never the run's, so that all runs are scored on the same photographs."""


class Photo(NamedTuple):
    """One photograph: its name within the set (with ``/`` between folders) and where it lies."""

    name: str
    path: Path


@dataclass(frozen=True)
class PhotoSet:
    """Photographs for training, validation and test; nothing has been decoded yet.

    Attributes:
        name: ``sample``, ``div2k``, or the folder's name.
        root: the folder that the photographs lie under.
        splits: the photographs of ``train``, ``val`` and ``test``, in the order in which limits take them.
        crops_per_image: random crops taken of each training photograph in an epoch.
        note: what to know about scores on this set; empty if nothing.
        ignored: files that are no photographs by their extension, as names relative to the root.
        warnings: what is wrong with the set without making it unusable, one line each.
        remarks: how it was read: what was taken for what, and what was left out, one line each.
    """

    name: str
    root: Path
    splits: dict[str, list[Photo]]
    crops_per_image: int = 1
    note: str = ""
    ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Everything to be said of it, in the order in which it is shown."""
        return [*self.remarks, *self.warnings, *([self.note] if self.note else [])]


def permuted(items: Sequence[T]) -> list[T]:
    """The items in an order drawn by SPLIT_SEED: the same in every version of every library, since it is SHA-256's."""
    order = sorted(range(len(items)), key=lambda index: derive_seed(SPLIT_SEED, "split", index))
    return [items[index] for index in order]


def hold_out(photos: Sequence[T]) -> tuple[list[T], list[T]]:
    """Train and val, 4 : 1, of what is only there to train: at least two, drawn by SPLIT_SEED."""
    mixed, held_out = permuted(photos), max(1, len(photos) // 5)
    return mixed[held_out:], mixed[:held_out]


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
