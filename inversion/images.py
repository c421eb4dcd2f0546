"""THE range contract: what a pixel value means at each place of the system.

- *stored*: ``uint8``, 0…255, ``(H, W, 3)``, as decoded and resized once into the cache.
- *image*: ``float32`` in [0, 1], ``(B, 3, H, W)``. Batches, decoder outputs and served reconstructions are images;
  they are never normalised.
- *normalised*: ``(image - mean) / std`` per channel. Only encoders see it (each makes its own, inside), and the target
  of the ``published`` protocol, which is ImageNet-normalised.
- *perceptual*: ``2·image - 1``, in [-1, 1]: what LPIPS is fed, made inside the loss.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch


class Normalisation(NamedTuple):
    """Per-channel mean and standard deviation of images in [0, 1], in the order red, green, blue."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

RESIZE_RATIO = 256 / 224
"""Shorter side of the stored photograph, in units of the crop that the encoder sees."""


def stored_size(image_size: int) -> int:
    """Shorter side of the stored photographs for crops of ``image_size``: 256 for 224, in proportion otherwise."""
    return round(image_size * RESIZE_RATIO)


def normalise(images: torch.Tensor, normalisation: Normalisation) -> torch.Tensor:
    """Images in [0, 1] ``(B, 3, H, W)`` to the normalised range of the same shape."""
    mean, std = _statistics(normalisation, images.device, images.dtype)
    return (images - mean) / std


@functools.cache  # to a GPU they are sent once: each time, the host would wait
def _statistics(
    normalisation: Normalisation, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    with torch.inference_mode(False):  # whoever asks first, training can use them
        mean, std = (torch.tensor(values, device=device, dtype=dtype).view(3, 1, 1) for values in normalisation)
    return mean, std


def from_stored(pixels: torch.Tensor) -> torch.Tensor:
    """Stored pixels ``uint8 (B, H, W, 3)`` to images ``float32 (B, 3, H, W)`` in [0, 1], channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(255.0)


def to_uint8(image: torch.Tensor) -> np.ndarray:
    """One image ``(3, H, W)`` to ``uint8 (H, W, 3)`` for display; values outside [0, 1] are clipped."""
    pixels: np.ndarray = image.detach().float().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return pixels
