"""The attention decoder attends as the formula says, at a cost that grows with the tokens and not their square."""

from __future__ import annotations

import math

import pytest
import torch

from inversion.errors import RequestError
from inversion.models import FeatureShape
from inversion.models.decoders import parse_decoder_options
from inversion.models.decoders._options import AttentionOptions
from inversion.models.decoders.attention import (
    AttentionDecoder,
    PooledAttention,
    TransformerBlock,
    attend,
    heads_of,
)
from inversion.training.measure import gflops_per_image


def options(**values: object) -> AttentionOptions:
    return AttentionOptions.model_validate(values)


def explicit(attention: PooledAttention, tokens: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """softmax(QKᵀ/√d)·V, head by head."""
    width = tokens.shape[2]
    each = width // attention.heads
    query, (key, value) = attention.query(tokens), attention.key_value(context).split(width, dim=2)
    attended = []
    for head in range(attention.heads):
        own = slice(head * each, (head + 1) * each)
        weights = (query[:, :, own] @ key[:, :, own].transpose(1, 2) / math.sqrt(each)).softmax(dim=2)
        attended.append(weights @ value[:, :, own])
    result: torch.Tensor = attention.out(torch.cat(attended, dim=2))
    return result


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_to_all_tokens_is_the_explicit_softmax(heads: int) -> None:
    torch.manual_seed(0)
    attention = PooledAttention(8, heads, pooled=14)
    tokens = torch.randn(2, 12, 8)
    torch.testing.assert_close(attention(tokens, (3, 4)), explicit(attention, tokens, tokens), atol=1e-6, rtol=1e-5)


def test_attention_to_pooled_tokens_is_the_explicit_softmax_over_their_averages() -> None:
    torch.manual_seed(0)
    attention = PooledAttention(8, 2, pooled=2)
    grid = torch.randn(2, 8, 4, 6)
    averages = torch.stack([grid[:, :, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3].mean((2, 3))
                            for row in range(2) for column in range(2)], dim=1)
    tokens = grid.flatten(2).transpose(1, 2)
    torch.testing.assert_close(attention(tokens, (4, 6)), explicit(attention, tokens, averages), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("channels", "computed_in"), [(32, torch.float32), (64, torch.bfloat16)])
def test_on_a_cpu_narrow_heads_are_computed_in_fp32_under_autocast(channels: int, computed_in: torch.dtype) -> None:
    chance = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 9, channels, generator=chance).bfloat16() for _ in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        attended = attend(query, key, value)
    assert attended.dtype == computed_in
    exact = torch.nn.functional.scaled_dot_product_attention(query.float(), key.float(), value.float())
    if computed_in == torch.float32:
        assert torch.equal(attended, exact)
    else:
        torch.testing.assert_close(attended.float(), exact, atol=0.02, rtol=0.02)


def test_a_block_keeps_each_token_at_its_place() -> None:
    torch.manual_seed(0)
    block = TransformerBlock(8, options())
    with torch.no_grad():
        for name, parameter in block.named_parameters():  # with all branches silent the block is the identity
            if not name.startswith("norm"):
                parameter.zero_()
    values = torch.randn(2, 8, 3, 5)
    assert torch.equal(block(values), values)


def test_four_times_the_tokens_cost_about_four_times_the_arithmetic() -> None:
    block = TransformerBlock(32, options(pooled=8)).eval()
    small, large = (gflops_per_image(block, torch.zeros(1, 32, side, side)) for side in (32, 64))
    assert 3.6 < large / small < 4.05


def test_without_pooling_they_cost_far_more() -> None:
    block = TransformerBlock(32, options(pooled=64)).eval()
    small, large = (gflops_per_image(block, torch.zeros(1, 32, side, side)) for side in (32, 64))
    assert large / small > 10


@pytest.mark.parametrize(("shape", "width"), [
    (FeatureShape(64, 112, 112), 64), (FeatureShape(256, 56, 56), 128), (FeatureShape(256, 28, 28), 256),
    (FeatureShape(384, 14, 14), 384), (FeatureShape(90, 14, 14), 90), (FeatureShape(3, 64, 64), 3),
])
def test_by_default_tokens_are_as_wide_as_the_features_and_at_most_128_where_they_are_many(
        shape: FeatureShape, width: int) -> None:
    assert AttentionDecoder(shape, 224, options(depth=1)).embed.out_channels == width


@pytest.mark.parametrize(("width", "heads"), [(1, 1), (64, 1), (100, 1), (128, 2), (200, 2), (320, 5), (384, 6)])
def test_by_default_there_is_a_head_for_every_64_channels_as_far_as_they_divide_the_width(
        width: int, heads: int) -> None:
    assert heads_of(width) == heads
    assert TransformerBlock(width, options()).attention.heads == heads
    assert TransformerBlock(width, options(heads=1)).attention.heads == 1


def test_features_that_no_number_of_heads_divides_become_tokens_that_it_does() -> None:
    assert AttentionDecoder(FeatureShape(90, 14, 14), 224, options(depth=1, heads=4)).embed.out_channels == 88


@pytest.mark.parametrize(("width", "heads"), [(64, 5), (6, 4), (2, 4)])
def test_heads_that_do_not_divide_the_width_are_refused(width: int, heads: int) -> None:
    with pytest.raises(RequestError, match=f"^decoder_options of decoder 'attention': heads={heads} does not divide "
                                           f"width={width}$"):
        parse_decoder_options("attention", AttentionDecoder.OptionsType, {"width": str(width), "heads": str(heads)})


@pytest.mark.parametrize("depth", [1, 3])
def test_options_are_obeyed(depth: int) -> None:
    decoder = AttentionDecoder(FeatureShape(64, 4, 4), 64, options(
        depth=depth, heads=2, width=10, mlp_ratio=1.5, pooled=2))
    blocks = [module for module in decoder.modules() if isinstance(module, TransformerBlock)]
    assert len(blocks) == depth
    assert (blocks[0].attention.heads, blocks[0].attention.pooled, decoder.embed.out_channels) == (2, 2, 10)
    hidden = blocks[0].mlp[0]
    assert isinstance(hidden, torch.nn.Linear)
    assert hidden.out_features == 15
