"""What each modifier computes, against closed forms and independent references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from inversion.errors import RequestError
from inversion.models import FeatureShape
from inversion.models.modifiers import Modifier, parse_modifiers
from inversion.models.modifiers._layers import Modifiers, content_seeds, step_seeds
from inversion.seeds import generator
from tests.models.modifiers.test_modifier_contract import SHAPE, fitted, some_images, some_maps


def parsed(text: str) -> Modifier:
    modifier, = parse_modifiers([text])
    return modifier


def projection(text: str, maps: Tensor) -> Tensor:
    rows: Tensor = fitted(text, maps).state_dict()["0.projection"]
    return rows


@pytest.mark.parametrize("side", [2, 4])
def test_pooling_is_the_mean_of_squares(side: int) -> None:
    maps = some_maps()
    pooled = fitted(f"pool={side}", maps)(maps)
    assert torch.equal(pooled, F.avg_pool2d(maps, side))
    blocks = maps.double().numpy().reshape(5, 24, 8 // side, side, 12 // side, side).mean(axis=(3, 5))
    np.testing.assert_allclose(pooled.numpy(), blocks, rtol=1e-5, atol=1e-6)


def test_pooling_goes_down_to_one_location_and_has_to_divide_the_map() -> None:
    assert parsed("pool=8").shape(FeatureShape(3, 8, 8)) == (3, 1, 1)
    for side in (5, 9, 16):
        message = rf"^pool={side} does not divide a map of 8×8\. Allowed here: 2, 4, 8\.$"
        with pytest.raises(RequestError, match=message):
            parsed(f"pool={side}").shape(FeatureShape(3, 8, 8))


@pytest.mark.parametrize("text", ["channels=6", "channels=24", "channels=pca:6", "channels=pca:24"])
def test_the_rows_of_a_projection_are_orthonormal(text: str) -> None:
    rows = projection(text, some_maps()).double()
    assert rows.shape[1] == 24
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_random_projection_is_the_same_in_every_run_and_keeps_its_share_of_the_energy() -> None:
    torch.manual_seed(1)
    one = projection("channels=6", some_maps())
    torch.manual_seed(2)
    assert torch.equal(projection("channels=6", some_maps() * 2 - 1), one)
    maps = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(3))
    share = fitted("channels=6", maps)(maps).square().sum() / maps.square().sum()
    assert share.item() == pytest.approx(6 / 24, rel=0.05)


def test_pca_is_that_of_a_singular_value_decomposition() -> None:
    mixing = torch.randn(24, 24, generator=torch.Generator().manual_seed(4))
    maps = torch.einsum("dc,bchw->bdhw", mixing, torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(5))) + 9
    chain = fitted("channels=pca:5", maps)
    values = maps.double().permute(0, 2, 3, 1).reshape(-1, 24).numpy()
    centred = values - values.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    state = chain.state_dict()
    np.testing.assert_allclose(state["0.mean"].numpy(), values.mean(axis=0), rtol=1e-5)
    cosines = np.abs((state["0.projection"].double().numpy() * directions[:5]).sum(axis=1))
    np.testing.assert_allclose(cosines, 1, atol=1e-6)
    expected = centred @ directions[:5].T
    found = chain(maps).permute(0, 2, 3, 1).reshape(-1, 5).double().numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)
    assert (state["0.projection"].gather(1, state["0.projection"].abs().argmax(1, keepdim=True)) > 0).all()


def test_pca_loses_less_than_a_random_projection() -> None:
    maps = some_maps() * torch.linspace(0.1, 4, 24).view(24, 1, 1)
    centred = maps - maps.mean((0, 2, 3), keepdim=True)
    kept = {text: torch.einsum("dc,bchw->bdhw", projection(text, maps), centred).square().sum().item()
            for text in ("channels=6", "channels=pca:6")}
    assert kept["channels=pca:6"] > 1.5 * kept["channels=6"]


@pytest.mark.parametrize("number", [1, 2, 4, 8, 16])
def test_quantising_moves_a_value_by_half_a_step_at_most_and_twice_is_once(number: int) -> None:
    maps = some_maps()
    chain = fitted(f"bits={number}", maps)
    quantised = chain(maps)
    low, high = (edge.view(24, 1, 1) for edge in (maps.amin((0, 2, 3)), maps.amax((0, 2, 3))))
    step = (high - low) / (2**number - 1)
    assert ((quantised - maps).abs() <= step / 2 + 1e-5).all()
    assert torch.equal(chain(quantised), quantised)
    levels = ((quantised - low) / step).double()
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=0.02)
    assert len(quantised[:, 0].unique()) <= 2**number
    assert torch.equal(chain(maps.requires_grad_()), quantised)  # with a gradient, too


def test_values_beyond_the_calibrated_range_are_clipped_and_a_constant_channel_has_one_level() -> None:
    maps = some_maps()
    maps[:, 3] = 1.5
    chain = fitted("bits=2", maps)
    wide = chain(maps * 100)
    torch.testing.assert_close(wide.amax((0, 2, 3)), maps.amax((0, 2, 3)))
    torch.testing.assert_close(wide.amin((0, 2, 3)), maps.amin((0, 2, 3)))
    assert wide[:, 3].unique().tolist() == [1.5]


@pytest.mark.parametrize("level", [0.05, 2.0])
def test_noise_has_the_standard_deviation_asked_for_in_units_of_the_root_mean_square(level: float) -> None:
    maps = some_maps(8)
    chain = fitted(f"noise={level}", maps)
    added = (chain(maps, list(range(8))) - maps).double()
    rms = maps.double().square().mean().sqrt().item()
    assert added.std().item() == pytest.approx(level * rms, rel=0.02)
    assert abs(added.mean().item()) < 4 * level * rms / math.sqrt(added.numel())
    correlation = np.corrcoef(added.flatten(1).numpy())
    assert np.abs(correlation - np.eye(8)).max() < 0.1  # another image, other noise
    assert torch.equal(chain(maps), maps)  # without seeds it is left out


def test_the_seed_of_an_image_is_its_content() -> None:
    images = (some_images(3) * 255).round() / 255
    seeds = content_seeds(images)
    assert len(set(seeds)) == 3
    assert content_seeds(images.flip(0).to(memory_format=torch.channels_last)) == seeds[::-1]
    assert content_seeds(images + 0.1 / 255) == seeds  # whatever the last bits of a decoder of pictures are
    assert content_seeds(images.flip(3))[0] != seeds[0]


def test_the_seeds_of_a_step_differ_by_run_epoch_step_and_image() -> None:
    every = [seed for place in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)) for seed in step_seeds(*place, 0, 2)]
    assert len(set(every)) == 8
    assert step_seeds(5, 1, 2, 2, 2) == step_seeds(5, 1, 2, 0, 4)[2:]  # however a batch is split


def test_two_encoders_of_an_ensemble_draw_other_noise() -> None:
    maps = torch.zeros(1, *SHAPE)
    first, second = (Modifiers(parse_modifiers(["noise=1"]), SHAPE, f"noise of {name}") for name in "ab")
    assert abs(np.corrcoef(first(maps, [1]).flatten(), second(maps, [1]).flatten())[0, 1]) < 0.1
    assert generator(1, "noise").initial_seed() != generator(2, "noise").initial_seed()
