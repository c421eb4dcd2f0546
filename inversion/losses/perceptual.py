"""LPIPS: how far apart two images look, by the features of an AlexNet.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018
(https://arxiv.org/abs/1801.03924).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from inversion.errors import WeightsError


class LPIPS(nn.Module):
    """Learned perceptual distance of images ``(B, 3, H, W)`` in [0, 1] to targets: ``(B,)``, 0 for equal ones.

    The ``lpips`` package's AlexNet with its linear layers, v0.1. ``trunk`` is an AlexNet state dict in torchvision's
    naming (``features.N.weight``). Frozen and always in eval mode, without dropout. What the targets are compared by
    does not depend on the images: ``target_features`` gives it once, and ``distance`` takes it.

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
        self.network.net.slice1[0] = BlockwiseConvolution(self.network.net.slice1[0])
        self.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> LPIPS:
        """Stays in eval mode: ``.train()`` would switch the package's dropout on."""
        return super().train(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.distance(self.features(images), self.target_features(targets))

    def features(self, images: Tensor) -> list[Tensor]:
        """AlexNet's five activations of images in [0, 1], each ``(B, C, h, w)``."""
        return list(self.network.net(self.network.scaling_layer(2 * images - 1)))

    @torch.no_grad()
    def target_features(self, targets: Tensor) -> list[Tensor]:
        """The features of targets, without a gradient."""
        return self.features(targets)

    def distance(self, features: Sequence[Tensor], target_features: Sequence[Tensor]) -> Tensor:
        """``(B,)`` from the ``features`` of images and those of their targets; computed in float32."""
        levels = zip(self.network.lins, features, target_features, strict=True)
        with torch.autocast(features[0].device.type, enabled=False):
            parts = [LevelDistance.apply(one.float(), other.float(), linear.model[-1].weight)
                     for linear, one, other in levels]
            return torch.stack(parts).sum(dim=0)


class LevelDistance(torch.autograd.Function):
    """Mean over locations of Σ_c weight_c (u_c - v_c)², where u and v are ``(B, C, h, w)`` at unit length: ``(B,)``.

    The package's ``normalize_tensor``, difference, square, 1×1 convolution and mean, for which autograd would go over
    the maps some thirty times; by hand it is a dozen (docs/log.md). With e = u - v and t = 2 weight e / (h w), times
    the gradient of the result, that of the features is (t - u ⟨u, t⟩) / length.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, target_features: Tensor, weight: Tensor) -> Tensor:
        length = _length(features)
        unit = features / length
        error = (target_features / _length(target_features)).neg_().add_(unit)
        ctx.save_for_backward(unit, error, length, weight)
        return F.conv2d(error.square(), weight).mean(dim=(1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        unit, error, length, weight = ctx.saved_tensors
        share = 2 * gradients[0].view(-1, 1, 1, 1) / (error.shape[2] * error.shape[3])
        to_unit = error * (weight * share)
        along = (unit * to_unit).sum(dim=1, keepdim=True)
        return to_unit.addcmul_(unit, along, value=-1).div_(length), None, None


def _length(features: Tensor) -> Tensor:
    """Length of each location's channels ``(B, 1, h, w)``, as in ``lpips.normalize_tensor``, but 1 where all are 0.

    There the package's square root has an infinite slope, and 0 · ∞ makes every gradient NaN.
    """
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return torch.where(length > 0, length + 1e-10, 1.0)


class BlockwiseConvolution(nn.Module):
    """A convolution of few channels with stride s, as one of stride 1 over blocks of s×s pixels: the same sums.

    AlexNet's first layer takes 3 channels, for which there are no fast routines: gradients to the image take a quarter
    of the time as 3×3 over 48 channels (docs/log.md). Its 11×11 weights become 12×12, with zeros.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.stride, self.padding = convolution.stride[0], cast(int, convolution.padding[0])
        outputs, channels, self.size, _ = convolution.weight.shape
        blocks = -(-self.size // self.stride)
        missing = blocks * self.stride - self.size
        weight = F.pad(convolution.weight.detach(), (0, missing, 0, missing))
        weight = weight.view(outputs, channels, blocks, self.stride, blocks, self.stride).permute(0, 1, 3, 5, 2, 4)
        self.blocks = blocks
        self.weight = nn.Parameter(weight.reshape(outputs, channels * self.stride**2, blocks, blocks))
        self.bias = convolution.bias

    def forward(self, images: Tensor) -> Tensor:
        padded = F.pad(images, [self.padding, self._after(images.shape[3]),
                                self.padding, self._after(images.shape[2])])
        return F.conv2d(F.pixel_unshuffle(padded, self.stride), self.weight, self.bias)

    def _after(self, side: int) -> int:
        """What to add behind the last pixel (or take away, if negative), so that whole blocks are left."""
        steps = (side + 2 * self.padding - self.size) // self.stride  # after the first place of the window
        return (steps + self.blocks) * self.stride - side - self.padding
