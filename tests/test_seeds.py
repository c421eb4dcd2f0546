"""Seeds for a purpose."""

from __future__ import annotations

import itertools

import torch

from inversion.seeds import derive_seed, generator


def test_every_seed_purpose_and_index_has_numbers_of_its_own() -> None:
    seeds = {derive_seed(seed, purpose, *indices) for seed, purpose, indices in
             itertools.product(range(3), ("crops", "flips"), ((), (0,), (1,), (0, 1), (1, 0)))}
    assert len(seeds) == 30
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_the_same_for_ever() -> None:
    assert derive_seed(0, "crops", 1) == 7443696316491975919


def test_a_generator_neither_reads_nor_moves_the_global_one() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = torch.rand(4, generator=generator(5, "order", 2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(torch.rand(4, generator=generator(5, "order", 2)), one)
