"""Batches that do not fit are halved, and what fits is remembered."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from inversion.training.memory import BatchSize, split_evenly, until_it_fits
from tests.training.short_memory import MESSAGE


@pytest.mark.parametrize(("images", "size", "parts"), [
    (4, 4, [4]), (4, 2, [2, 2]), (5, 3, [3, 2]), (5, 4, [3, 2]), (7, 3, [3, 2, 2]), (5, 2, [2, 2, 1]), (3, 1, [1] * 3),
])
def test_parts_are_few_and_even_and_keep_the_order(images: int, size: int, parts: list[int]) -> None:
    batch = torch.arange(images)
    split = split_evenly(batch, size)
    assert [len(part) for part in split] == parts
    assert torch.equal(torch.cat(list(split)), batch)


def test_sizes_are_halved_and_rounded_up_until_one_fits() -> None:
    sizes: list[tuple[int, int]] = []

    def compute(size: int) -> int:
        if size > 1:
            raise torch.OutOfMemoryError(MESSAGE)
        return 10 * size

    assert until_it_fits(compute, 5, "image_size 8", lambda *pair: sizes.append(pair)) == 10
    assert sizes == [(5, 3), (3, 2), (2, 1)]


def test_another_error_is_not_taken_for_short_memory() -> None:
    def compute(_: int) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        until_it_fits(compute, 4, "image_size 8")


def test_the_failed_attempt_is_freed_and_the_cache_emptied_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    activations: list[weakref.ref[Tensor]] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(activations[-1]() is None))

    def compute(size: int) -> int:
        assert all(reference() is None for reference in activations)
        activation = torch.ones(size)
        cycle: list[Any] = [activation]
        cycle.append(cycle)
        activations.append(weakref.ref(activation))
        if size > 1:
            raise torch.OutOfMemoryError(MESSAGE)
        return size

    assert until_it_fits(compute, 4, "image_size 8") == 1
    assert emptied == [True, True]


def test_a_batch_size_goes_through_all_images_in_order_and_remembers_what_fits() -> None:
    batch, seen = BatchSize(4, "image_size 8"), []

    def compute(images: Tensor) -> list[int]:
        seen.append(len(images))
        if 7 in images and len(images) > 2:
            raise torch.OutOfMemoryError(MESSAGE)
        return [int(image) for image in images]

    def flat(rows: Iterator[list[int]]) -> list[int]:
        return [value for row in rows for value in row]

    assert flat(batch.map(compute, torch.arange(11))) == list(range(11))
    assert seen == [4, 4, 2, 2, 2, 1]
    assert batch.size == 2
    assert flat(batch.map(compute, torch.arange(0))) == []
