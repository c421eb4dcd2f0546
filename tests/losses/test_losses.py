"""The training loss: LPIPS as the package computes it, finite everywhere, and the targets of both protocols."""

from __future__ import annotations

from collections.abc import Callable

import lpips  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion.errors import WeightsError
from inversion.losses.perceptual import LPIPS, LevelDistance
from inversion.losses.reconstruction import ReconstructionLoss, make_targets

Trunk = dict[str, Tensor]


@pytest.fixture(scope="module")
def package() -> lpips.LPIPS:
    """The package's own metric, with a random trunk."""
    torch.manual_seed(11)
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    return network.eval()


@pytest.fixture(scope="module")
def ours(package: lpips.LPIPS) -> LPIPS:
    """Ours with the same trunk."""
    return LPIPS(trunk_of(package), "the package's trunk")


def trunk_of(package: lpips.LPIPS) -> Trunk:
    """``slice1.0.weight`` → ``features.0.weight``."""
    return {f"features.{name.split('.', 1)[1]}": tensor.clone() for name, tensor in package.net.state_dict().items()}


def pairs(seed: int = 0, size: int = 64) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return torch.rand(3, 3, size, size, generator=chance), torch.rand(3, 3, size, size, generator=chance)


@pytest.mark.parametrize("size", [32, 33, 34, 35, 47, 64])
def test_lpips_is_the_packages_own_on_images_scaled_to_minus_1_to_1(
        package: lpips.LPIPS, ours: LPIPS, size: int) -> None:
    images, targets = pairs(size=size)
    with torch.no_grad():
        expected = package(2 * images - 1, 2 * targets - 1).flatten()
        result = ours(images, targets)
    assert result.shape == (3,)
    assert expected.min() > 0.01
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)


def test_lpips_is_the_packages_own_on_photographs(
        package: lpips.LPIPS, ours: LPIPS, photograph: Callable[[str, int], NDArray[np.uint8]]) -> None:
    pixels = torch.from_numpy(np.stack([photograph(name, 64) for name in ("astronaut", "chelsea", "coffee")]))
    images = pixels.permute(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        expected = package(images, images.roll(1, 0), normalize=True).flatten()
        torch.testing.assert_close(ours(images, images.roll(1, 0)), expected, atol=1e-6, rtol=0)


def test_lpips_has_the_packages_gradient(package: lpips.LPIPS, ours: LPIPS) -> None:
    images, targets = pairs()
    one, other = images.clone().requires_grad_(), images.clone().requires_grad_()
    ours(one, targets).sum().backward()
    package(2 * other - 1, 2 * targets - 1).sum().backward()
    assert one.grad is not None
    assert one.grad.abs().max() > 1e-6
    torch.testing.assert_close(one.grad, other.grad, atol=1e-7, rtol=1e-4)


def test_under_autocast_the_features_are_bf16_and_their_distance_is_not(ours: LPIPS) -> None:
    images, targets = pairs()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features, wanted = ours.features(images), ours.target_features(targets)
        distance = ours.distance(features, wanted)
    assert {level.dtype for level in features} == {torch.bfloat16}
    assert distance.dtype == torch.float32
    exact = ours.distance([level.float() for level in features], [level.float() for level in wanted])
    assert torch.equal(distance, exact)


def test_a_distance_to_targets_seen_before_is_the_distance_to_the_targets(ours: LPIPS) -> None:
    images, targets = pairs()
    with torch.no_grad():
        assert torch.equal(ours.distance(ours.features(images), ours.target_features(targets)), ours(images, targets))
    loss = ReconstructionLoss(0.5, 0.5, ours)
    assert loss(images, targets, ours.target_features(targets)).total.item() == loss(images, targets).total.item()


def test_lpips_of_equal_images_is_exactly_0(ours: LPIPS) -> None:
    images, _ = pairs()
    assert ours(images, images).tolist() == [0.0] * 3


def levels(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features with a place where all are 0, wanted ones, and a weight for each channel."""
    chance = torch.Generator().manual_seed(seed)
    features, wanted = (torch.rand(2, 5, 3, 4, generator=chance, dtype=torch.float64) for _ in range(2))
    features[:, :, 1, 1] = 0
    return features, wanted, torch.rand(1, 5, 1, 1, generator=chance, dtype=torch.float64)


def test_a_levels_distance_and_gradient_are_those_of_the_packages_steps_but_where_those_are_nan() -> None:
    features, wanted, weight = levels()
    one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    ours: Tensor = LevelDistance.apply(one, wanted, weight)
    difference = lpips.normalize_tensor(other) - lpips.normalize_tensor(wanted)
    theirs = (difference.square() * weight).sum(dim=1).mean(dim=(1, 2))
    torch.testing.assert_close(ours, theirs)
    for distance in (ours, theirs):
        (distance * torch.tensor([2.0, 3.0])).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert torch.isfinite(one.grad).all()
    assert other.grad[:, :, 1, 1].isnan().all()
    there = features > 0
    torch.testing.assert_close(one.grad[there], other.grad[there])


def test_a_levels_gradient_is_that_of_finite_differences() -> None:
    features, wanted, weight = levels()
    features[:, :, 1, 1] = 0.5
    assert torch.autograd.gradcheck(lambda values: LevelDistance.apply(values, wanted, weight),
                                    features.requires_grad_())


def test_a_trunk_that_sees_nothing_gives_distance_0_and_finite_gradients(random_trunk: Trunk) -> None:
    blind = {name: torch.full_like(tensor, -100) if name.endswith("bias") else tensor
             for name, tensor in random_trunk.items()}
    images, targets = pairs()
    distance = LPIPS(blind, "blind")(images.requires_grad_(), targets)
    distance.sum().backward()
    assert distance.tolist() == [0.0] * 3
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


def test_a_constant_image_has_a_finite_gradient(ours: LPIPS) -> None:
    images, targets = torch.zeros(1, 3, 64, 64, requires_grad=True), torch.zeros(1, 3, 64, 64)
    ours(images, targets).sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


def test_lpips_is_frozen_and_stays_in_eval_mode(ours: LPIPS) -> None:
    loss = ReconstructionLoss(1.0, 1.0, ours).train()
    assert not any(module.training for module in ours.modules())
    assert any(isinstance(module, torch.nn.Dropout) for module in ours.modules())
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    images, targets = pairs()
    assert torch.equal(loss(images, targets).total, loss(images, targets).total)


def test_no_gradient_flows_to_the_targets(ours: LPIPS) -> None:
    images, targets = (part.requires_grad_() for part in pairs())
    ours(images, targets).sum().backward()
    assert images.grad is not None
    assert targets.grad is None


@pytest.mark.parametrize("name", ["features.0.weight", "features.6.bias", "features.10.weight"])
def test_a_tensor_that_alexnet_needs_is_named_when_it_is_missing_or_misshapen(random_trunk: Trunk, name: str) -> None:
    others = {key: tensor for key, tensor in random_trunk.items() if key != name}
    with pytest.raises(WeightsError, match=rf"^alex\.pth: tensor '{name}' of AlexNet is missing"):
        LPIPS(others, "alex.pth")
    doubled = random_trunk | {name: torch.cat([random_trunk[name], random_trunk[name]])}
    with pytest.raises(WeightsError, match=rf"^alex\.pth: tensor '{name}' is \(\d+.*, AlexNet's is \(\d+"):
        LPIPS(doubled, "alex.pth")


def test_a_whole_alexnet_state_dict_serves_and_is_not_changed(random_trunk: Trunk) -> None:
    whole = random_trunk | {"classifier.1.weight": torch.zeros(4, 4)}
    before = {name: tensor.clone() for name, tensor in whole.items()}
    LPIPS(whole, "alex.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in whole.items())


def test_under_the_image_protocol_the_image_is_both_targets() -> None:
    images, _ = pairs()
    targets = make_targets(images, "image")
    assert torch.equal(targets.loss, images)
    assert torch.equal(targets.score, images)


def test_under_the_published_protocol_the_loss_sees_the_normalised_image_and_the_score_clips_it() -> None:
    images = torch.zeros(1, 3, 2, 2)
    images[0, :, 0, 0] = 1
    images[0, :, 0, 1] = 0.5
    targets = make_targets(images, "published")
    assert targets.loss[0, :, 0, 0].tolist() == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-4)
    assert targets.loss[0, :, 1, 1].tolist() == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-4)
    assert targets.score[0, :, 0, 0].tolist() == [1, 1, 1]
    assert targets.score[0, :, 1, 1].tolist() == [0, 0, 0]
    assert targets.score[0, :, 0, 1].tolist() == pytest.approx(targets.loss[0, :, 0, 1].tolist())
    assert targets.score[0, 0, 0, 1].item() == pytest.approx((0.5 - 0.485) / 0.229, abs=1e-6)


def test_the_terms_add_up_by_their_weights(ours: LPIPS) -> None:
    images, targets = pairs()
    terms = ReconstructionLoss(0.3, 0.9, ours)(images, targets)
    assert terms.mse.item() == pytest.approx((images - targets).square().mean().item())
    assert terms.lpips.item() == pytest.approx(ours(images, targets).mean().item())
    assert terms.total.item() == pytest.approx(0.3 * terms.mse.item() + 0.9 * terms.lpips.item())


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_without_lpips_or_its_weight_the_loss_is_the_weighted_mse_alone(ours: LPIPS, weight: float) -> None:
    images, targets = pairs()
    terms = ReconstructionLoss(0.5, weight, ours if weight == 0 else None)(images, targets)
    assert terms.lpips is None
    assert terms.total.item() == pytest.approx(0.5 * (images - targets).square().mean().item())
