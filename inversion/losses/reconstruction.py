"""The training loss: a weighted sum of mean squared error and LPIPS. Its target depends on the protocol:

- ``image``: the target is the image itself, in [0, 1], for the loss and the metrics.
- ``published``: the target of the loss is the ImageNet-normalised image (about −2.1…2.6), whose range a sigmoid cannot
  reach; the metrics use it clipped to [0, 1]. The released code of the published study does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from torch import Tensor, nn

from inversion.images import IMAGENET, normalise
from inversion.losses.lpips import LPIPS


class Targets(NamedTuple):
    """The targets of a batch for the loss and for the metrics, each ``(B, 3, H, W)``."""

    loss: Tensor
    score: Tensor


def make_targets(images: Tensor, protocol: Literal["image", "published"]) -> Targets:
    """The targets of images ``(B, 3, H, W)`` in [0, 1] under a protocol."""
    if protocol == "image":
        return Targets(images, images)
    normalised = normalise(images, IMAGENET)
    return Targets(normalised, normalised.clamp(0, 1))


class LossTerms(NamedTuple):
    """The loss and its unweighted terms, each a scalar mean over the batch; ``lpips`` is None if it is off."""

    total: Tensor
    mse: Tensor
    lpips: Tensor | None


class ReconstructionLoss(nn.Module):
    """``mse_weight · MSE + lpips_weight · LPIPS`` between images ``(B, 3, H, W)`` in [0, 1] and their loss targets."""

    def __init__(self, mse_weight: float, lpips_weight: float, lpips: LPIPS | None) -> None:
        super().__init__()
        self.mse_weight = mse_weight
        self.lpips_weight = lpips_weight
        self.lpips = lpips

    @property
    def used_lpips(self) -> LPIPS | None:
        """The LPIPS module if its weight is not 0, else None."""
        return self.lpips if self.lpips_weight else None

    def forward(self, images: Tensor, targets: Tensor, target_features: Sequence[Tensor] | None = None) -> LossTerms:
        """The loss of a batch; ``target_features`` are the LPIPS features of the targets, if already computed."""
        mse = (images - targets).square().mean()
        lpips = self.used_lpips
        if lpips is None:
            return LossTerms(self.mse_weight * mse, mse, None)
        if target_features is None:
            target_features = lpips.target_features(targets)
        distance = lpips.distance(lpips.features(images), target_features)
        perceptual = distance.mean()
        return LossTerms(self.mse_weight * mse + self.lpips_weight * perceptual, mse, perceptual)
