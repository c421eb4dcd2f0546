"""LPIPS: perceptual distance of images, from the features of AlexNet.

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
    """Learned perceptual distance ``(B,)`` between images ``(B, 3, H, W)`` in [0, 1] and targets; 0 if they are equal.

    Uses AlexNet and the linear layers of the ``lpips`` package, v0.1. ``trunk`` is an AlexNet state dict with
    torchvision's names (``features.N.weight``). The module is frozen and always in eval mode, without dropout.
    ``target_features`` and ``distance`` allow the features of fixed targets to be computed once.

    Raises:
        WeightsError: the state dict is not that of AlexNet; the message names the tensor.
    """

    def __init__(self, trunk: dict[str, Tensor], source: str) -> None:
        super().__init__()
        import lpips  # type: ignore[import-untyped]

        # pnet_rand=True: otherwise the package downloads the trunk, without a timeout
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it uses a deprecated argument of torchvision
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
        """Stays in eval mode: ``.train()`` would enable the package's dropout."""
        return super().train(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.distance(self.features(images), self.target_features(targets))

    def features(self, images: Tensor) -> list[Tensor]:
        """The activations of AlexNet's five layers for images in [0, 1], each ``(B, C, h, w)``."""
        return list(self.network.net(self.network.scaling_layer(2 * images - 1)))

    @torch.no_grad()
    def target_features(self, targets: Tensor) -> list[Tensor]:
        """The features of targets, without gradients."""
        return self.features(targets)

    def distance(self, features: Sequence[Tensor], target_features: Sequence[Tensor]) -> Tensor:
        """The distance ``(B,)`` from the ``features`` of images and of their targets; computed in float32."""
        levels = zip(self.network.lins, features, target_features, strict=True)
        with torch.autocast(features[0].device.type, enabled=False):
            parts = [LevelDistance.apply(one.float(), other.float(), linear.model[-1].weight)
                     for linear, one, other in levels]
            return torch.stack(parts).sum(dim=0)


class LevelDistance(torch.autograd.Function):
    """Mean over locations of Σ_c weight_c (u_c - v_c)²: ``(B,)``, for features u, v ``(B, C, h, w)`` of unit length.

    Equal to the package's ``normalize_tensor``, difference, square, 1×1 convolution and mean. Autograd would read the
    maps about thirty times, this backward pass about twelve times (docs/log.md). With e = u - v and
    t = 2 · weight · e / (h · w) · (gradient of the result), the gradient of the features is (t - u ⟨u, t⟩) / length.
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
    """L2 norm over the channels ``(B, 1, h, w)``, as in ``lpips.normalize_tensor``, but 1 where all channels are 0.

    There the gradient of the package's square root is infinite, and 0 · ∞ would make every gradient NaN.
    """
    length = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return torch.where(length > 0, length + 1e-10, 1.0)


class BlockwiseConvolution(nn.Module):
    """A convolution of stride s, computed as one of stride 1 after ``pixel_unshuffle`` by s: the same result.

    AlexNet's first layer has 3 input channels, for which oneDNN has no fast kernels. As 3×3 over 48 channels, the
    gradient to the image takes a quarter of the time (docs/log.md). The 11×11 kernel is padded with zeros to 12×12.
    Devices other than CPUs use the original convolution.
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
        self.plain_weight: Tensor
        self.register_buffer("plain_weight", convolution.weight.detach(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type != "cpu":
            return F.conv2d(images, self.plain_weight, self.bias, self.stride, self.padding)
        padded = F.pad(images, [self.padding, self._after(images.shape[3]),
                                self.padding, self._after(images.shape[2])])
        return F.conv2d(F.pixel_unshuffle(padded, self.stride), self.weight, self.bias)

    def _after(self, side: int) -> int:
        """Padding after the last pixel so that the side is a multiple of the stride; negative values crop."""
        steps = (side + 2 * self.padding - self.size) // self.stride  # of the window, from its first position
        return (steps + self.blocks) * self.stride - side - self.padding
