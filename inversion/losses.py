"""The training loss: a weighted sum of mean squared error and LPIPS, in the space that the protocol says.

- ``image``: the target is the image itself, in [0, 1]; scores are taken against it.
- ``published``: the target is the ImageNet-normalised image (about −2.1…2.6), which a sigmoid cannot reach; scores
  are taken against that target clipped to [0, 1]. This is what the released code of the published study does.
"""

from __future__ import annotations

import warnings
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from inversion.errors import WeightsError
from inversion.images import IMAGENET, normalise


class Targets(NamedTuple):
    """What a batch is trained towards and scored against, each ``(B, 3, H, W)``."""

    loss: Tensor
    score: Tensor


def make_targets(images: Tensor, protocol: Literal["image", "published"]) -> Targets:
    """The targets of images in [0, 1] under a protocol."""
    if protocol == "image":
        return Targets(images, images)
    normalised = normalise(images, IMAGENET)
    return Targets(normalised, normalised.clamp(0, 1))


class LPIPS(nn.Module):
    """Learned perceptual distance of images ``(B, 3, H, W)`` in [0, 1] to targets: ``(B,)``, 0 for equal ones.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018
    (https://arxiv.org/abs/1801.03924): the ``lpips`` package's AlexNet with its linear layers, v0.1. ``trunk`` is an
    AlexNet state dict in torchvision's naming (``features.N.weight``). Frozen and always in eval mode, without dropout.

    Raises:
        WeightsError: the state dict is not an AlexNet's; the message names the tensor.
    """

    def __init__(self, trunk: dict[str, Tensor], source: str) -> None:
        super().__init__()
        import lpips  # type: ignore[import-untyped]

        # pnet_rand: the package would otherwise download the trunk, without a time limit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it calls torchvision in a deprecated way
            self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        for name, tensor in self.network.net.state_dict().items():
            original = f"features.{name.partition('.')[2]}"  # slice1.0.weight is features.0.weight
            if original not in trunk:
                raise WeightsError(f"{source}: tensor {original!r} of AlexNet is missing (needed for LPIPS)")
            if trunk[original].shape != tensor.shape:
                raise WeightsError(f"{source}: tensor {original!r} is {tuple(trunk[original].shape)}, "
                                   f"AlexNet's is {tuple(tensor.shape)}")
            tensor.copy_(trunk[original])
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LPIPS:
        """Stays in eval mode: ``.train()`` would switch the package's dropout on."""
        return super().train(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        network = self.network
        distance = images.new_zeros(len(images), dtype=torch.float32)
        features = network.net(network.scaling_layer(2 * images - 1))
        with torch.no_grad():
            wanted = network.net(network.scaling_layer(2 * targets - 1))
        for level, linear in enumerate(network.lins):
            difference = (_unit_length(features[level].float()) - _unit_length(wanted[level].float())).square()
            distance = distance + linear(difference).mean(dim=(1, 2, 3))
        return distance


def _unit_length(features: Tensor) -> Tensor:
    """Each location's channels at unit length, as ``lpips.normalize_tensor``, with a finite gradient where all are 0.

    There the package's square root has an infinite slope, and 0 · ∞ makes every gradient NaN.
    """
    squared = features.square().sum(dim=1, keepdim=True)
    present = squared > 0
    length = torch.where(present, squared, 1.0).sqrt()
    return features / torch.where(present, length + 1e-10, 1.0)


class LossTerms(NamedTuple):
    """The loss to minimise and its parts, each a mean over the batch; ``lpips`` is None when it is off."""

    total: Tensor
    mse: Tensor
    lpips: Tensor | None


class ReconstructionLoss(nn.Module):
    """``mse_weight · MSE + lpips_weight · LPIPS`` of images ``(B, 3, H, W)`` in [0, 1] to loss targets."""

    def __init__(self, mse_weight: float, lpips_weight: float, lpips: LPIPS | None) -> None:
        super().__init__()
        self.mse_weight = mse_weight
        self.lpips_weight = lpips_weight
        self.lpips = lpips

    def forward(self, images: Tensor, targets: Tensor) -> LossTerms:
        mse = (images - targets).square().mean()
        if self.lpips is None or self.lpips_weight == 0:
            return LossTerms(self.mse_weight * mse, mse, None)
        perceptual = self.lpips(images, targets).mean()
        return LossTerms(self.mse_weight * mse + self.lpips_weight * perceptual, mse, perceptual)
