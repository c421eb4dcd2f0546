"""JPEG on a run's test images, at several qualities: the line to compare the rates of quantised features with.

The files are Pillow's, with the defaults of a camera's or web site's JPEG: baseline, 4:2:0, standard Huffman tables.
Two sizes are recorded, since the tables in the header are the same for all images of a quality:

- the whole file;
- the scan alone, the entropy-coded data. At 64 pixels, the header's 600 bytes are more than most scans.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inversion import metrics
from inversion.images import from_stored
from inversion.losses.reconstruction import make_targets

QUALITIES = (1, 2, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 100)

END_OF_IMAGE = 2
"""Bytes of the marker at the end of a file."""


class JpegScore(NamedTuple):
    """One image at one quality; rates are in bits per pixel of the image."""

    image: str
    quality: int
    bits_per_pixel: float
    scan_bits_per_pixel: float
    psnr: float


def jpeg_scores(crops: Tensor, names: Sequence[str], protocol: Literal["image", "published"]) -> list[JpegScore]:
    """Rates and PSNR of stored crops ``uint8 (N, S, S, 3)``; the PSNR is that of the run's own scores."""
    return [score for crop, name in zip(crops, names, strict=True) for score in _scores(crop, name, protocol)]


def _scores(crop: Tensor, name: str, protocol: Literal["image", "published"]) -> list[JpegScore]:
    pixels: NDArray[np.uint8] = crop.cpu().numpy()
    files = [encode(pixels, quality) for quality in QUALITIES]
    decoded = torch.from_numpy(np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files]))
    scored = make_targets(from_stored(decoded), protocol).score
    target = make_targets(from_stored(crop.cpu()[None]), protocol).score
    bits = 8 / (pixels.shape[0] * pixels.shape[1])  # of a byte, for each pixel
    return [JpegScore(name, quality, bits * len(file), bits * scan_bytes(file), psnr)
            for quality, file, psnr in zip(QUALITIES, files, metrics.psnr(scored, target).tolist(), strict=True)]


def encode(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """A JPEG file of pixels ``uint8 (H, W, 3)``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def scan_bytes(file: bytes) -> int:
    """The size of the entropy-coded data of a baseline JPEG file (ITU-T T.81, B.1): what follows the scan's header."""
    place = 2  # after the marker of the start of the image
    while True:
        marker, length = file[place + 1], int.from_bytes(file[place + 2 : place + 4])
        place += 2 + length
        if marker == 0xDA:  # start of scan
            return len(file) - place - END_OF_IMAGE
