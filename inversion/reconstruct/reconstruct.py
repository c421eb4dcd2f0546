"""One picture through one trained run: prepared as the run's test images are, or whole, in tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inversion.data.batches import center_crops
from inversion.data.decode import scaled_pixels
from inversion.images import from_stored, stored_size
from inversion.losses.perceptual import LPIPS
from inversion.losses.reconstruction import make_targets
from inversion.reconstruct.scores import PictureScores, score_picture
from inversion.reconstruct.tiles import reconstruct_in_tiles
from inversion.runs.load import Reconstructor

Size = Literal["fit", "tiles"]


@dataclass(frozen=True)
class Reconstruction:
    """A picture and what a run made of it, images ``(3, H, W)`` in [0, 1]; ``difference`` is what the scores count.

    Under the published protocol that is the difference to the normalised picture, clipped to [0, 1].
    """

    original: Tensor
    reconstruction: Tensor
    difference: Tensor
    scores: PictureScores


def reconstruct_picture(pixels: NDArray[np.uint8], size: Size, image_size: int, reconstructor: Reconstructor,
                        lpips: LPIPS | None) -> Reconstruction:
    """Reconstructs and scores a picture ``uint8 (H, W, 3)``.

    ``fit`` scales the shorter side and crops the centre, ``image_size`` pixels a side, as is done with test images;
    ``tiles`` keeps the picture's own size.

    Raises:
        OutOfMemoryError: not even one image fits into the device's memory.
    """
    if size == "fit":
        pixels = fitted(pixels, image_size)
        reconstruction = reconstructor.stored(torch.from_numpy(pixels)[None])[0]
    else:
        reconstruction = reconstruct_in_tiles(pixels, image_size, from_stored, reconstructor)
    # a copy, because the pixels may be read-only
    original = from_stored(torch.from_numpy(pixels.copy())[None])
    target = make_targets(original, reconstructor.engine.protocol).score[0]
    scores = score_picture(reconstruction, target, lpips)
    return Reconstruction(original[0], reconstruction, (reconstruction - target).abs(), scores)


def fitted(pixels: NDArray[np.uint8], image_size: int) -> NDArray[np.uint8]:
    """A picture prepared as test images are: ``uint8 (S, S, 3)``, its shorter side 256/224 of ``S`` before the crop."""
    crop: NDArray[np.uint8] = center_crops([scaled_pixels(pixels, stored_size(image_size))], image_size)[0].numpy()
    return crop
