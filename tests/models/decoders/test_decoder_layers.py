"""Layers that are made for speed compute what the plain ones do."""

from __future__ import annotations

import torch
from torch import nn

from inversion.models.decoders._layers import Doubling


def test_a_doubling_is_a_transposed_convolution_with_all_its_gradients() -> None:
    torch.manual_seed(0)
    ours, plain = Doubling(5, 3), nn.ConvTranspose2d(5, 3, kernel_size=4, stride=2, padding=1)
    plain.load_state_dict(ours.state_dict())
    one, other = (torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    made, expected = ours(one), plain(other)
    assert torch.equal(made, expected)
    weights = torch.rand(made.shape)
    (made * weights).sum().backward()
    (expected * weights).sum().backward()
    for ours_, theirs in ((one, other), (ours.weight, plain.weight), (ours.bias, plain.bias)):
        assert ours_ is not None
        assert theirs is not None
        torch.testing.assert_close(ours_.grad, theirs.grad)
