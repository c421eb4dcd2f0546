"""Transformer blocks over the feature tokens, with pooled keys and values, then the upsampling head.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (https://arxiv.org/abs/1706.03762). Keys and values are
average-pooled to a fixed number of tokens as in the linear spatial-reduction attention of Wang et al., "PVT v2",
2022, section 3.2 (https://arxiv.org/abs/2106.13797), so time and memory grow with the tokens and not with their
square. A depthwise convolution gives positions (Chu et al., "Conditional Positional Encodings", 2021,
https://arxiv.org/abs/2102.10882).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models.decoders import Decoder, decoders
from inversion.models.decoders._layers import UpsamplingHead
from inversion.models.decoders._options import AttentionOptions

FEW_TOKENS = 1024
"""Up to so many tokens the blocks are as wide as the features; beyond, at most 128 wide."""

HEAD_CHANNELS = 64


@decoders.register("attention")
class AttentionDecoder(Decoder):
    """1×1 convolution to the tokens' width → blocks → upsampling head."""

    OptionsType = AttentionOptions

    def __init__(self, features: FeatureShape, image_size: int, options: AttentionOptions) -> None:
        super().__init__(features, image_size, options)
        widest = features.channels if features.spatial_positions <= FEW_TOKENS else 128
        width = options.width or _multiple(options.heads, min(features.channels, widest))
        self.embed = nn.Conv2d(features.channels, width, kernel_size=1)
        self.blocks = nn.Sequential(*(TransformerBlock(width, options) for _ in range(options.depth)))
        self.head = UpsamplingHead(features._replace(channels=width), image_size)

    def forward(self, features: Tensor) -> Tensor:
        image: Tensor = self.head(self.blocks(self.embed(features)))
        return image


def heads_of(width: int) -> int:
    """One for every 64 channels, as in ViT and PVT, as far as they divide the width.

    More and smaller ones cost in proportion: each has a softmax of its own over all queries and keys, and of the
    products of 16 channels little is gained (docs/log.md).
    """
    return max(heads for heads in range(1, max(1, width // HEAD_CHANNELS) + 1) if width % heads == 0)


def _multiple(heads: int, most: int) -> int:
    """The largest width up to ``most`` that so many heads divide."""
    return max(1, most // heads) * heads if heads else most


class TransformerBlock(nn.Module):
    """Pre-norm block on a map ``(B, C, H, W)``: positions, attention and MLP, each added to its input."""

    def __init__(self, width: int, options: AttentionOptions) -> None:
        super().__init__()
        self.position = nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = PooledAttention(width, options.heads or heads_of(width), options.pooled)
        self.norm_mlp = nn.LayerNorm(width)
        hidden = int(width * options.mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, values: Tensor) -> Tensor:
        values = values + self.position(values)
        size = values.shape[-2:]
        tokens = values.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm_attention(tokens), size)
        tokens = tokens + self.mlp(self.norm_mlp(tokens))
        result: Tensor = tokens.transpose(1, 2).unflatten(2, size)
        return result


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """``softmax(q kᵀ / √d) v`` of heads ``(B, heads, N, d)``, by PyTorch's fused attention.

    On a CPU heads of fewer than 64 channels are computed in fp32 whatever they come in: the backward pass in bf16 takes
    up to twice as long there (docs/log.md).
    """
    if query.device.type == "cpu" and query.shape[-1] < HEAD_CHANNELS:
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    return F.scaled_dot_product_attention(query, key, value)


class PooledAttention(nn.Module):
    """Multi-head attention of all tokens ``(B, N, C)`` to at most ``pooled²`` averaged ones."""

    def __init__(self, width: int, heads: int, pooled: int) -> None:
        super().__init__()
        self.heads = heads
        self.pooled = pooled
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        context = tokens
        if max(size) > self.pooled:
            grid = tokens.transpose(1, 2).unflatten(2, size)
            context = F.adaptive_avg_pool2d(grid, self.pooled).flatten(2).transpose(1, 2)
        query = self._split(self.query(tokens))
        key, value = (self._split(part) for part in self.key_value(context).chunk(2, dim=-1))
        attended = attend(query, key, value)
        result: Tensor = self.out(attended.transpose(1, 2).flatten(2))
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        """``(B, N, C)`` to ``(B, heads, N, C / heads)``."""
        split: Tensor = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return split
