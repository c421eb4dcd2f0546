"""The training loss: a weighted sum of mean squared error, LPIPS and a user's own term.

Its target depends on the protocol:

- ``image``: the target is the image itself, in [0, 1], for the loss and the metrics.
- ``published``: the target of the loss is the ImageNet-normalised image (about −2.1…2.6), whose range a sigmoid cannot
  reach; the metrics use it clipped to [0, 1]. The released code of the published study does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
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
    """The loss and its unweighted terms, each a scalar mean over the batch; ``lpips`` and ``own`` are None if off."""

    total: Tensor
    mse: Tensor
    lpips: Tensor | None
    own: Tensor | None = None

    @property
    def further(self) -> tuple[Tensor | None, Tensor | None]:
        """Those that can be off."""
        return self.lpips, self.own

    def values(self) -> Tensor:
        """All of them as a tensor ``(4,)``, with 0 for those that are off."""
        return torch.stack([torch.zeros_like(self.mse) if value is None else value.to(self.mse.dtype)
                            for value in self])


class OwnTerm(nn.Module):
    """A term of a user's own: ``compute`` gives the mean over the images, a scalar, of images and targets."""

    def __init__(self, name: str, weight: float, compute: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.weight = weight
        self.compute = compute

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """The unweighted term."""
        value: Tensor = self.compute(images, targets)
        return value


class ReconstructionLoss(nn.Module):
    """``mse_weight · MSE + lpips_weight · LPIPS`` between images ``(B, 3, H, W)`` in [0, 1] and their loss targets.

    To these, a user's own term is added with its weight.
    """

    def __init__(self, mse_weight: float, lpips_weight: float, lpips: LPIPS | None, own: OwnTerm | None = None) -> None:
        super().__init__()
        self.mse_weight = mse_weight
        self.lpips_weight = lpips_weight
        self.lpips = lpips
        self.own = own

    @property
    def used_lpips(self) -> LPIPS | None:
        """The LPIPS module if its weight is not 0, else None."""
        return self.lpips if self.lpips_weight else None

    def forward(self, images: Tensor, targets: Tensor, target_features: Sequence[Tensor] | None = None) -> LossTerms:
        """The loss of a batch; ``target_features`` are the LPIPS features of the targets, if already computed."""
        mse = (images - targets).square().mean()
        base, own = self.mse_weight * mse, None
        if self.own is not None:
            own = self.own(images, targets)
            base = base + self.own.weight * own
        lpips = self.used_lpips
        if lpips is None:
            return LossTerms(base, mse, None, own)
        if target_features is None:
            target_features = lpips.target_features(targets)
        distance = lpips.distance(lpips.features(images), target_features)
        perceptual = distance.mean()
        return LossTerms(base + self.lpips_weight * perceptual, mse, perceptual, own)
