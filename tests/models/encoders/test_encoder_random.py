"""Random weights: a function of the seed alone, as the originals draw them, and quick."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch

from inversion.models.encoders import ENCODERS, EncoderCut, WeightsSource
from inversion.models.encoders.build import Encoder, build_encoder

Build = Callable[..., Encoder]

FIRST = ["vgg16:block1", "resnet34:layer1", "vit_small:block1", "pvt_v2_b2:stage1", "timm/test_vit.r160_in1k:block1"]


def build(text: str, seed: int = 0, image_size: int = 64) -> Encoder:
    encoder, _, layer = text.partition(":")
    return build_encoder(EncoderCut(encoder, layer), WeightsSource(encoder, "random", seed=seed), image_size)


def equal(one: Encoder, other: Encoder) -> bool:
    states = one.trunk_state(), other.trunk_state()
    return states[0].keys() == states[1].keys() and all(torch.equal(states[0][name], states[1][name])
                                                        for name in states[0])


@pytest.mark.parametrize("text", FIRST)
def test_the_same_seed_is_the_same_encoder_whatever_the_global_random_state(text: str) -> None:
    torch.manual_seed(1)
    one = build(text)
    torch.manual_seed(2)
    assert equal(one, build(text))
    assert not equal(one, build(text, seed=7))


@pytest.mark.parametrize("text", FIRST)
def test_building_leaves_the_global_random_state_alone(text: str) -> None:
    before = torch.get_rng_state()
    build(text)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("shallow", "deep"), [
    ("vgg16:block1", "vgg16:block3"), ("resnet34:layer1", "resnet34:layer3"), ("vit_small:block1", "vit_small:block3"),
    ("pvt_v2_b2:stage1", "pvt_v2_b2:stage2"), ("timm/test_vit.r160_in1k:block1", "timm/test_vit.r160_in1k:block3"),
])
def test_a_layers_weights_are_the_same_wherever_the_cut_is(shallow: str, deep: str) -> None:
    first, more = build(shallow).trunk_state(), build(deep).trunk_state()
    assert len(more) > len(first)
    assert all(torch.equal(tensor, more[name]) for name, tensor in first.items())


def test_vits_blocks_are_the_same_at_every_image_size() -> None:
    small, large = build("vit_small:block1").trunk_state(), build("vit_small:block1", image_size=224).trunk_state()
    assert [name for name in small if not torch.equal(small[name], large[name])] == ["pos_embed"]


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_tensor_is_spread_as_the_original_model_spreads_it(
        name: str, original: Callable[[str], Any], random_encoder: Build) -> None:
    layer = list(ENCODERS[name].layers)[1]
    drawn = random_encoder(f"{name}:{layer}").trunk_state()
    whole = original(name).model.state_dict()
    compared = 0
    for tensor_name, tensor in drawn.items():
        if ".bn" in tensor_name or "bn1." in tensor_name or "downsample.1" in tensor_name:
            continue  # the original has the statistics of a trained model here
        expected = whole[tensor_name]
        if tensor.numel() > 1 and expected.std() > 0:
            # Means differ by about std·sqrt(2 / n), standard deviations by about std / sqrt(n).
            tolerance = 6 / tensor.numel() ** 0.5
            assert (tensor.mean() / expected.std()).item() == pytest.approx(0, abs=tolerance), tensor_name
            assert (tensor.std() / expected.std()).item() == pytest.approx(1, abs=tolerance), tensor_name
            compared += 1
        else:
            assert torch.equal(tensor, expected), tensor_name
    assert compared > 3


@pytest.mark.parametrize("name", ["vgg16", "resnet34"])
def test_batch_statistics_start_neutral(name: str) -> None:
    for tensor_name, tensor in build(f"{name}:{next(iter(ENCODERS[name].layers))}").trunk_state().items():
        if "bn" in tensor_name:
            neutral = 1.0 if tensor_name.endswith(("weight", "running_var")) else 0.0
            assert torch.equal(tensor.float(), torch.full(tensor.shape, neutral)), tensor_name


GOLDEN = {
    ("vgg16:block1", "features.0.weight"): (0.038681771606, -0.043007891625),
    ("resnet34:layer1", "conv1.weight"): (0.021956723183, -0.022622307762),
    ("vit_small:block1", "blocks.0.attn.qkv.weight"): (-0.004428793210, 0.005004800856),
    ("pvt_v2_b2:stage1", "patch_embed.proj.weight"): (0.004377472680, -0.019887261092),
}


def test_random_weights_are_these_numbers() -> None:
    """Golden values: whoever changes them changes what ``random`` means, and raises RANDOM_RECIPE."""
    for (text, name), (first, last) in GOLDEN.items():
        numbers = build(text).trunk_state()[name].flatten()
        assert (numbers[0].item(), numbers[-1].item()) == pytest.approx((first, last), rel=1e-5)


def test_a_whole_vgg16_is_never_built_for_its_first_block() -> None:
    build("vgg16:block1")
    started = time.process_time()
    build("vgg16:block1")
    assert time.process_time() - started < 0.5


def test_a_tensor_without_a_rule_is_an_error_not_a_zero() -> None:
    from inversion.models.encoders._random import random_state

    with torch.device("meta"):
        model = timm.create_model("test_vit2")
    with pytest.raises(ValueError, match="no rule for the random weights of"):
        random_state(model, "vit_small", 0)
