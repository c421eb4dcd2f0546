"""Queries, keys and values of timm's transformer blocks, computed from the tokens that enter the block.

They are what the projections of the attention give, with their bias, for the tokens after the block's first norm:
before a norm of queries and keys (``q_norm``), rotary position embeddings and the scale. The heads follow one another
in the channels, as in Amir et al., "Deep ViT Features as Dense Visual Descriptors", 2021 (https://arxiv.org/abs/2112.05814).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timm.models import beit, eva, vision_transformer
from torch import Tensor, nn
from torch.nn import functional as F

from inversion.models.encoders.specs import PROJECTIONS

_PRE_NORM = (vision_transformer.Block, eva.EvaBlock, beit.Block)
"""Blocks whose attention gets ``norm1`` of their input."""

_NEEDED = frozenset({"qkv", "q_proj", "k_proj", "v_proj", "q_bias", "k_bias", "v_bias"})


def projected_channels(blocks: Iterable[nn.Module]) -> dict[str, int]:
    """The channels of queries, keys and values, which are equal in all blocks; empty if they cannot be read."""
    found = [_channels(block) for block in blocks]
    return found[0] if found and all(channels == found[0] for channels in found) else {}


def _channels(block: nn.Module) -> dict[str, int]:
    attention = getattr(block, "attn", None)
    if not isinstance(block, _PRE_NORM) or attention is None:
        return {}
    fused = getattr(attention, "qkv", None)
    if isinstance(fused, nn.Linear):
        return dict.fromkeys(PROJECTIONS, fused.out_features // len(PROJECTIONS))
    linear = {part: getattr(attention, f"{part}_proj", None) for part in PROJECTIONS}
    return {part: layer.out_features for part, layer in linear.items() if isinstance(layer, nn.Linear)}


class BlockInput(nn.Module):
    """What queries, keys and values of a block need of it. Called as the block, it gives its input back."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.norm1: nn.Module = block.norm1  # type: ignore[assignment]
        self.attn: nn.Module = block.attn  # type: ignore[assignment]
        for tensors in (self.attn._parameters, self.attn._buffers, self.attn._modules):
            for name in tensors.keys() - _NEEDED:
                tensors[name] = None

    def forward(self, tokens: Tensor, *_: object, **__: object) -> Tensor:
        return tokens


def project(block: Any, tokens: Tensor, part: str) -> Tensor:
    """The queries, keys or values, ``part``, of the tokens that enter the block, both as maps ``(B, C, h, w)``."""
    attention, values = block.attn, block.norm1(tokens.permute(0, 2, 3, 1))
    fused, index = getattr(attention, "qkv", None), PROJECTIONS.index(part)
    if fused is None:
        projected = getattr(attention, f"{part}_proj")(values)
    else:
        bias = getattr(attention, f"{part}_bias", None) if fused.bias is None else fused.bias.chunk(3)[index]
        projected = F.linear(values, fused.weight.chunk(3)[index], bias)
    found: Tensor = projected.permute(0, 3, 1, 2).contiguous()
    return found
