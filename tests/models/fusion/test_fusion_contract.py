"""What every fusion promises, and what makes each the one it is called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inversion.models import FeatureShape
from inversion.models.decoders import decoders
from inversion.models.encoders.catalog import ENSEMBLE
from inversion.models.fusion import Fusion, fusions, options_type
from inversion.models.fusion._published import PublishedAttention
from inversion.models.fusion.attention import AttentionFusion
from inversion.models.fusion.concat import ConcatFusion
from inversion.models.fusion.weighted import WeightedFusion
from inversion.models.options import DesignOptions

SMALL, LARGE = FeatureShape(24, 4, 4), FeatureShape(16, 16, 16)

PUBLISHED = [f"{name}:published" for name in fusions.names() if issubclass(options_type(name), DesignOptions)]
EVERY_NAME = pytest.mark.parametrize("name", [*fusions.names(), *PUBLISHED])


def maps(shapes: list[FeatureShape], batch: int = 2) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(batch, *shape, generator=chance) for shape in shapes]


def build(name: str, shapes: list[FeatureShape], seed: int = 0) -> Fusion:
    """A fusion by its name; ``NAME:published`` has the option ``design=published``."""
    name, _, design = name.partition(":")
    torch.manual_seed(seed)
    return fusions.get(name).build(shapes, options_type(name).model_validate({"design": design} if design else {}))


def pass_through(fusion: Fusion) -> None:
    """Makes the alignment of maps with as many channels as the fused one the identity."""
    with torch.no_grad():
        for align in fusion.align:
            assert isinstance(align, torch.nn.Conv2d)
            align.weight.copy_(torch.eye(align.out_channels)[:, :, None, None])
            assert align.bias is not None
            align.bias.zero_()


@EVERY_NAME
@pytest.mark.parametrize("shapes", [[SMALL, LARGE], [LARGE, SMALL, FeatureShape(8, 5, 7)], [SMALL, SMALL]], ids=str)
def test_maps_are_fused_to_256_channels_at_the_size_of_the_largest(name: str, shapes: list[FeatureShape]) -> None:
    fusion = build(name, shapes)
    fused = fusion(maps(shapes))
    largest = max(shapes, key=lambda shape: shape.spatial_positions)
    assert fusion.fused == (256, largest.height, largest.width)
    assert fused.shape == (2, *fusion.fused)
    assert torch.isfinite(fused).all()


@EVERY_NAME
@pytest.mark.parametrize("decoder", decoders.names())
def test_every_parameter_of_fusion_and_decoder_gets_a_finite_gradient_that_is_not_zero(name: str, decoder: str) -> None:
    fusion = build(name, [SMALL, LARGE]).train()
    built = decoders.get(decoder)(fusion.fused, 32, decoders.get(decoder).OptionsType()).train()
    images = built(fusion(maps([SMALL, LARGE])))
    assert images.shape == (2, 3, 32, 32)
    assert images.min() >= 0
    assert images.max() <= 1
    (images - torch.rand(images.shape, generator=torch.Generator().manual_seed(2))).square().mean().backward()
    for parameter_name, parameter in [*fusion.named_parameters(), *built.named_parameters()]:
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.any(), parameter_name


@EVERY_NAME
def test_the_same_seed_gives_the_same_parameters_and_another_seed_others(name: str) -> None:
    one, same, other = (build(name, [SMALL, LARGE], seed).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert not all(torch.equal(value, other[key]) for key, value in one.items())


@EVERY_NAME
def test_each_map_matters(name: str) -> None:
    fusion = build(name, [SMALL, LARGE]).eval()
    features = maps([SMALL, LARGE])
    before = fusion(features)
    for index in range(2):
        changed = [values + (place == index) for place, values in enumerate(features)]
        assert not torch.allclose(fusion(changed), before, atol=1e-3)


@EVERY_NAME
def test_as_many_maps_are_needed_as_it_was_built_for(name: str) -> None:
    with pytest.raises(ValueError, match="shorter"):
        build(name, [SMALL, LARGE])(maps([SMALL]))


@pytest.mark.parametrize(("name", "parameters"), [
    ("weighted", 741_124), ("attention", 1_595_140), ("concat", 6_051_072),
])
def test_a_published_fusion_has_the_parameters_of_the_released_code(name: str, parameters: int) -> None:
    with torch.device("meta"):
        fusion = build(f"{name}:published", [cut.shape(224) for cut in ENSEMBLE])
    assert sum(parameter.numel() for parameter in fusion.parameters()) == parameters


def test_the_published_attention_has_one_weight_per_encoder_and_image() -> None:
    fusion = PublishedAttention([FeatureShape(4, 3, 3)] * 2, channels=4).eval()
    with torch.no_grad():  # the first encoder takes all
        last = fusion.weights[2]
        assert isinstance(last, torch.nn.Linear)
        last.weight.zero_()
        last.bias.copy_(torch.tensor([50.0, 0.0]))
    one, other, another = maps([FeatureShape(4, 3, 3)] * 3)
    torch.testing.assert_close(fusion([one, other]), fusion([one, another]))


def test_weighted_is_the_mean_at_the_start() -> None:
    fusion = WeightedFusion([FeatureShape(4, 3, 3)] * 3, channels=4)
    pass_through(fusion)
    features = maps([FeatureShape(4, 3, 3)] * 3)
    torch.testing.assert_close(fusion(features), torch.stack(features).mean(0))


def test_weighted_follows_its_logits_by_a_softmax() -> None:
    fusion = WeightedFusion([FeatureShape(4, 3, 3)] * 2, channels=4)
    pass_through(fusion)
    with torch.no_grad():
        fusion.logits.copy_(torch.tensor([3.0, 1.0]).log())
    one, other = maps([FeatureShape(4, 3, 3)] * 2)
    torch.testing.assert_close(fusion([one, other]), 0.75 * one + 0.25 * other)


def test_attention_weighs_each_place_by_itself_and_the_weights_sum_to_one() -> None:
    fusion = AttentionFusion([FeatureShape(4, 3, 3)] * 2, channels=4)
    pass_through(fusion)
    with torch.no_grad():  # scores: 50 times the first channel, so that the larger one takes all
        for score in fusion.score:
            assert isinstance(score, torch.nn.Conv2d)
            assert score.bias is not None
            score.weight.zero_()[:, 0] = 50
            score.bias.zero_()
    one, other = maps([FeatureShape(4, 3, 3)] * 2)
    one[:, 0], other[:, 0] = 0, 0
    one[:, 0, 0, :], other[:, 0, 1, :] = 1, 1
    expected = torch.cat([one[:, :, :1], other[:, :, 1:2], (one[:, :, 2:] + other[:, :, 2:]) / 2], dim=2)
    torch.testing.assert_close(fusion([one, other]), expected)
    same = fusion([one, one])
    torch.testing.assert_close(same, one)


def test_concat_mixes_the_stacked_channels() -> None:
    fusion = ConcatFusion([FeatureShape(4, 3, 3)] * 2, channels=4).eval()
    pass_through(fusion)
    mix = fusion.mix[0]
    assert isinstance(mix, torch.nn.Conv2d)
    assert mix.in_channels == 8
    with torch.no_grad():
        mix.weight.copy_(torch.cat([torch.eye(4), 2 * torch.eye(4)], dim=1)[:, :, None, None])
    one, other = maps([FeatureShape(4, 3, 3)] * 2)
    torch.testing.assert_close(fusion([one, other]), (one + 2 * other).relu() / (1 + 1e-5) ** 0.5)


def test_resizing_after_the_alignment_is_the_same_as_before_it() -> None:
    fusion = build("weighted", [SMALL, LARGE])
    small, large = maps([SMALL, LARGE])
    resized = torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear", align_corners=False)
    expected = (fusion.align[0](resized) + fusion.align[1](large)) / 2
    torch.testing.assert_close(fusion([small, large]), expected, atol=1e-5, rtol=1e-5)
