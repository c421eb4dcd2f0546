"""The training loss: a weighted sum of mean squared error and LPIPS, in the space that the protocol says.

- ``image``: the target is the image itself, in [0, 1]; scores are taken against it.
- ``published``: the target is the ImageNet-normalised image (about −2.1…2.6), which a sigmoid cannot reach; scores
  are taken against that target clipped to [0, 1]. This is what the released code of the published study does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from inversion.images import IMAGENET, normalise
from inversion.losses.perceptual import LPIPS


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

    @property
    def used_lpips(self) -> LPIPS | None:
        """LPIPS where it is part of the loss."""
        return self.lpips if self.lpips_weight else None

    def forward(self, images: Tensor, targets: Tensor, target_features: Sequence[Tensor] | None = None) -> LossTerms:
        """The loss of a batch; ``target_features`` are LPIPS's features of the targets, if already computed."""
        mse = (images - targets).square().mean()
        lpips = self.used_lpips
        if lpips is None:
            return LossTerms(self.mse_weight * mse, mse, None)
        if target_features is None:
            target_features = lpips.target_features(targets)
        distance = lpips.distance(lpips.features(images), target_features)
        perceptual = distance.mean()
        return LossTerms(self.mse_weight * mse + self.lpips_weight * perceptual, mse, perceptual)
