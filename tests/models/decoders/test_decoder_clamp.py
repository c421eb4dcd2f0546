"""The clamp at the end of decoders that predict coefficients."""

from __future__ import annotations

import pytest
import torch

from inversion.models.decoders import clamp_to_image


@pytest.mark.parametrize(("value", "target", "moves"), [
    (1.5, 0.9, True),    # too bright, and the target is inside: pulled back
    (-0.5, 0.1, True),
    (1.5, 2.6, False),   # the target is out of reach: nothing is gained by growing
    (-0.5, -2.1, False),
    (0.5, 2.6, True),    # inside, every gradient counts
    (0.5, -2.1, True),
])
def test_a_gradient_passes_inside_and_where_it_leads_back(value: float, target: float, moves: bool) -> None:
    pixel = torch.tensor([value], requires_grad=True)
    clamped = clamp_to_image(pixel)
    (clamped - target).square().sum().backward()
    assert pixel.grad is not None
    expected = 2 * (min(max(value, 0.0), 1.0) - target)
    torch.testing.assert_close(pixel.grad, torch.tensor([expected if moves else 0.0]))


def test_the_clamped_values_are_those_of_torch() -> None:
    values = torch.linspace(-2, 3, 101)
    torch.testing.assert_close(clamp_to_image(values), values.clamp(0, 1), rtol=0, atol=0)
