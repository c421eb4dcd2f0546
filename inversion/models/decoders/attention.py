"""Transformer blocks over the feature tokens, with pooled keys and values, then the upsampling head.

Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (https://arxiv.org/abs/1706.03762). Keys and values are
average-pooled to a fixed number of tokens as in the linear spatial-reduction attention of Wang et al., "PVT v2",
2022, section 3.2 (https://arxiv.org/abs/2106.13797), so time and memory are linear in the number of tokens,
not quadratic. A depthwise convolution encodes positions (Chu et al., "Conditional Positional Encodings", 2021,
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
from inversion.models.decoders._published import PublishedAttention

FEW_TOKENS = 1024
"""Up to this number of tokens, the default width is that of the features; above it, at most 128."""

HEAD_CHANNELS = 64


@decoders.register("attention")
class AttentionDecoder(Decoder):
    """Transformer decoder with W channels per token.

    ::

        features (B, C, h, w)
          → Conv2d(1×1)                                  (B, W, h, w), N = h·w tokens
          → depth × transformer block                    (B, W, h, w)
              x + depthwise Conv2d(3×3)                  (B, W, h, w)
              x + attention(LayerNorm), pooled keys      (B, N, W)
              x + MLP(LayerNorm)                         (B, N, W)
          → UpsamplingHead                               (B, 3, S, S) in [0, 1]
    """

    OptionsType = AttentionOptions
    published = PublishedAttention

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
    """The default number of heads: one per 64 channels, as in ViT and PVT, or fewer so that it divides the width.

    The time grows with the number of heads, since each computes its own softmax over all queries and keys
    (docs/log.md).
    """
    return max(heads for heads in range(1, max(1, width // HEAD_CHANNELS) + 1) if width % heads == 0)


def _multiple(heads: int, most: int) -> int:
    """The largest multiple of ``heads`` up to ``most``; ``most`` itself if heads is 0."""
    return max(1, most // heads) * heads if heads else most


class TransformerBlock(nn.Module):
    """Pre-norm transformer block on a map ``(B, C, H, W)``: position encoding, attention and MLP, all residual."""

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
    """``softmax(q kᵀ / √d) v`` with PyTorch's fused attention, for inputs ``(B, heads, N, d)``.

    On CPUs, heads of fewer than 64 channels are always computed in fp32: the backward pass in bf16 takes up to twice as
    long (docs/log.md).
    """
    if query.device.type == "cpu" and query.shape[-1] < HEAD_CHANNELS:
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    return F.scaled_dot_product_attention(query, key, value)


class PooledAttention(nn.Module):
    """Multi-head attention of tokens ``(B, N, C)`` to at most ``pooled²`` average-pooled tokens."""

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
        """``(B, N, C)`` → ``(B, heads, N, C / heads)``."""
        split: Tensor = tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return split
