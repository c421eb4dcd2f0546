"""The linear decoder: an affine map, and least squares where it is trained for the squared error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from inversion.models import FeatureShape
from inversion.models.decoders import decoders, parse_decoder_options
from inversion.models.decoders.linear import LinearDecoder

SHAPE, SIZE = FeatureShape(2, 3, 3), 6


def build(shape: FeatureShape = SHAPE, size: int = SIZE, **options: str) -> LinearDecoder:
    torch.manual_seed(0)
    made = decoders.get("linear")(shape, size, parse_decoder_options("linear", LinearDecoder.OptionsType, options))
    assert isinstance(made, LinearDecoder)
    return made.double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_within_the_range_it_is_affine() -> None:
    decoder = build(FeatureShape(4, 8, 8), 32)
    one, other = 0.1 * random(1, 4, 8, 8), 0.1 * random(1, 4, 8, 8, seed=1)
    images = [decoder(values) for values in (one, other, 0.3 * one + 0.7 * other)]
    assert all(image.min() > 0 and image.max() < 1 for image in images)
    torch.testing.assert_close(images[2], 0.3 * images[0] + 0.7 * images[1], atol=1e-6, rtol=0)


def test_it_is_a_transposed_convolution_with_a_kernel_of_three_strides() -> None:
    decoder = build()
    block, features = decoder.block, 0.1 * random(2, *SHAPE)
    weight = decoder.to_blocks.weight.detach()  # (3·s², C, 3, 3), the neighbour at (i, j) lies at (i - 1, j - 1)
    kernel = weight.view(3, block, block, 2, 3, 3).flip(4, 5).permute(3, 0, 4, 1, 5, 2).reshape(
        2, 3, 3 * block, 3 * block)
    bias = decoder.to_blocks.bias
    assert bias is not None
    assert not bias.any()
    transposed = F.conv_transpose2d(features, kernel, stride=block, padding=block) + 0.5
    torch.testing.assert_close(decoder(features).double(), transposed, atol=1e-6, rtol=0)


def test_trained_for_the_squared_error_it_is_least_squares() -> None:
    """numpy's solution from the nine neighbours of each place to the twelve values of its block."""
    count, block = 12, 2
    features = random(count, *SHAPE)
    targets = (0.5 + 0.03 * random(count, 3, SIZE, SIZE, seed=1)).clamp(0.3, 0.7)
    decoder = build()
    assert decoder.block == block
    optimizer = torch.optim.LBFGS(decoder.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0,
                                  line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        blocks = decoder.to_blocks(features)  # in float64: the image itself is float32
        loss = 1e4 * (F.pixel_shuffle(blocks + 0.5, block) - targets).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    neighbours = F.unfold(features, 3, padding=1).transpose(1, 2).reshape(-1, 2 * 9).numpy()
    values = F.pixel_unshuffle(targets, block).permute(0, 2, 3, 1).reshape(-1, 12).numpy()
    design = np.hstack([neighbours, np.ones((len(neighbours), 1))])
    solution, *_ = np.linalg.lstsq(design, values, rcond=None)
    expected = ((design @ solution - values) ** 2).mean()
    with torch.no_grad():
        found = (decoder(features) - targets).square().mean().item()
    assert found == pytest.approx(expected, rel=1e-4)
    assert decoder.to_blocks.weight.detach().reshape(12, -1).numpy() == pytest.approx(solution[:-1].T, abs=1e-4)


def test_the_width_is_the_rank_of_the_map() -> None:
    decoder = build(FeatureShape(8, 3, 3), 6, width="2")
    base = torch.full((1, 8, 3, 3), 0.0, dtype=torch.float64)
    columns = []
    for channel in range(8):
        features = base.clone()
        features[0, channel, 1, 1] = 0.1
        columns.append((decoder(features) - decoder(base)).double().flatten())
    assert torch.linalg.matrix_rank(torch.stack(columns), rtol=1e-4) == 2
