"""Batches of crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from inversion.data.batches import TrainBatches, center_crops

SIZE = 8


def coded(height: int, width: int, number: int) -> np.ndarray:
    """A photograph whose pixels say which it is and where they were: (number, row, column)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, number), rows, columns], axis=2).astype(np.uint8)


PHOTOS = [coded(10, 16, 0), coded(10, 10, 1), coded(14, 10, 2), coded(10, 11, 3), coded(8, 8, 4)]


def batches(crops: int = 3, seed: int = 0, batch_size: int = 4) -> TrainBatches:
    return TrainBatches(PHOTOS, SIZE, batch_size, crops, seed)


def test_an_epoch_has_every_photograph_the_same_number_of_times() -> None:
    epoch = list(batches(crops=3).epoch(1))
    assert [len(batch) for batch in epoch] == [4, 4, 4, 3]
    assert len(batches(crops=3)) == 4
    assert all(batch.dtype == torch.uint8 and batch.shape[1:] == (SIZE, SIZE, 3) for batch in epoch)
    numbers = torch.cat(epoch)[:, 0, 0, 0]
    assert torch.bincount(numbers.int()).tolist() == [3] * 5


@pytest.mark.parametrize("start", range(5))
def test_an_epoch_begun_at_batch_k_goes_on_as_the_whole_one(start: int) -> None:
    whole = list(batches().epoch(2))
    rest = list(batches().epoch(2, start))
    assert len(rest) == len(whole) - start
    assert all(torch.equal(one, other) for one, other in zip(whole[start:], rest, strict=True))


def test_crops_are_contiguous_squares_within_the_photograph_half_of_them_mirrored() -> None:
    mirrored = corners = 0
    for crop in torch.cat(list(batches(crops=200).epoch(1))).int():
        number, top = int(crop[0, 0, 0]), int(crop[0, 0, 1])
        columns = crop[0, :, 2]
        if columns[0] > columns[-1]:
            mirrored += 1
            columns = columns.flip(0)
        left = int(columns[0])
        expected = torch.from_numpy(PHOTOS[number][top : top + SIZE, left : left + SIZE].astype(np.int32))
        assert torch.equal(crop[:, :, :2], expected[:, :, :2])
        assert torch.equal(columns, expected[0, :, 2])
        corners += 1
    assert corners == 1000
    assert 430 < mirrored < 570


def test_every_crop_position_up_to_the_last_row_and_column_is_drawn() -> None:
    crops = torch.cat(list(batches(crops=400).epoch(1))).int()
    first = crops[crops[:, 0, 0, 0] == 0]
    assert set(first[:, 0, 0, 1].tolist()) == {0, 1, 2}
    assert set(first[:, :, :, 2].amin((1, 2)).tolist()) == set(range(9))


def test_epochs_and_seeds_differ_and_repeat_themselves() -> None:
    def epoch(number: int, seed: int = 0) -> torch.Tensor:
        return torch.cat(list(batches(seed=seed).epoch(number)))

    assert torch.equal(epoch(1), epoch(1))
    assert not torch.equal(epoch(1), epoch(2))
    assert not torch.equal(epoch(1), epoch(1, seed=1))


def test_crops_and_flips_are_drawn_anew_in_every_epoch() -> None:
    only = TrainBatches([coded(60, 60, 0)], SIZE, 50, 50, 0)
    one, other = (next(only.epoch(number)).int() for number in (1, 2))
    assert one[:, 0, 0, 1].tolist() != other[:, 0, 0, 1].tolist()
    flips = [(crops[:, 0, 0, 2] > crops[:, 0, -1, 2]).tolist() for crops in (one, other)]
    assert flips[0] != flips[1]


def test_the_process_wide_generators_neither_matter_nor_move() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.cat(list(batches().epoch(1)))
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.get_rng_state(), repr(np.random.get_state())
    assert torch.equal(torch.cat(list(batches().epoch(1))), before)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert repr(np.random.get_state()) == state[1]


def test_stored_pixels_are_not_changed_and_may_be_read_only() -> None:
    photo = coded(10, 10, 0)
    photo.flags.writeable = False
    next(TrainBatches([photo], SIZE, 1, 1, 0).epoch(0)).zero_()
    center_crops([photo], SIZE).zero_()
    assert np.array_equal(photo, coded(10, 10, 0))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 8), (8, 11), (10, 13), (11, 15)])
def test_centre_crops_are_torchvisions(height: int, width: int) -> None:
    from torchvision.transforms.functional import center_crop  # type: ignore[import-untyped]

    photo = coded(height, width, 1)
    expected = center_crop(torch.from_numpy(photo).permute(2, 0, 1), [SIZE]).permute(1, 2, 0)
    crops = center_crops([photo, photo], SIZE)
    assert crops.shape == (2, SIZE, SIZE, 3)
    assert crops.dtype == torch.uint8
    assert torch.equal(crops[1], expected)


def test_batches_cut_on_a_device_are_those_cut_on_the_host() -> None:
    here, there = batches(), batches()
    there.move_to(torch.device("cpu"))  # the way of a GPU, which is the same on any device
    assert there.size == sum(photo.nbytes for photo in PHOTOS)
    for one, other in zip(here.epoch(2, start=1), there.epoch(2, start=1), strict=True):
        assert torch.equal(one, other)


def fixed(seed: int = 0, crops: int = 2, count: int = 3, batch_size: int = 4) -> TrainBatches:
    return TrainBatches(PHOTOS, SIZE, batch_size, crops, seed, count)


def test_fixed_crops_are_the_same_for_every_seed_and_have_their_turns() -> None:
    seen: dict[int, set[bytes]] = {photo: set() for photo in range(5)}
    for seed in range(3):
        for epoch in range(1, 7):
            crops = torch.cat(list(fixed(seed).epoch(epoch)))
            assert torch.bincount(crops[:, 0, 0, 0].int()).tolist() == [2] * 5
            for crop in crops:
                seen[int(crop[0, 0, 0])].add(crop.numpy().tobytes())
    every = [fixed().cut_fixed([3 * photo + number for number in range(3)]) for photo in range(5)]
    for photo, crops in enumerate(every):
        assert seen[photo] == {crop.numpy().tobytes() for crop in crops}
    turns = sorted(number for epoch in range(1, 4) for number in fixed().fixed_of(epoch))
    assert turns == sorted(list(range(15)) * 2)  # each as often as the others


def test_a_batch_of_fixed_crops_is_that_of_its_numbers() -> None:
    batches = fixed(seed=4)
    numbers = batches.fixed_of(2)
    assert torch.equal(torch.cat(list(batches.epoch(2))), batches.cut_fixed(numbers))
    assert torch.equal(torch.cat(list(batches.epoch(2, start=1))), batches.cut_fixed(numbers[4:]))
    assert batches.fixed_of(2) == numbers != batches.fixed_of(3)
    assert fixed(seed=5).fixed_of(2) != numbers


def test_fixed_crops_are_drawn_as_random_ones_are() -> None:
    crops = TrainBatches(PHOTOS, SIZE, 4, 1, 0, 400).cut_fixed(range(400)).int()
    assert set(crops[:, 0, 0, 1].tolist()) == {0, 1, 2}
    assert set(crops[:, :, :, 2].amin((1, 2)).tolist()) == set(range(9))
    mirrored = int((crops[:, 0, 0, 2] > crops[:, 0, -1, 2]).sum())
    assert 160 < mirrored < 240
