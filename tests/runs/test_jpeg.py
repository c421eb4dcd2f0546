"""JPEG's rates and scores, which stand beside those of quantised features."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from inversion.images import IMAGENET
from inversion.runs.jpeg import QUALITIES, encode, jpeg_scores, scan_bytes

Photograph = Callable[[str, int], NDArray[np.uint8]]


def psnr(one: Any, other: Any, most: int) -> float:
    """scikit-image's."""
    return float(peak_signal_noise_ratio(one, other, data_range=most))  # type: ignore[no-untyped-call]


def test_a_score_is_that_of_the_real_file(photograph: Photograph) -> None:
    pixels = photograph("astronaut", 64)
    rows = jpeg_scores(torch.tensor(pixels)[None], ["one"], "image")
    assert [(row.image, row.quality) for row in rows] == [("one", quality) for quality in QUALITIES]
    for row in rows:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=row.quality)
        assert row.bits_per_pixel == 8 * len(buffer.getvalue()) / 64**2
        decoded = np.asarray(Image.open(buffer))
        assert row.psnr == pytest.approx(psnr(pixels, decoded, 255), abs=1e-6)


def test_more_bits_give_a_better_picture(photograph: Photograph) -> None:
    rows = jpeg_scores(torch.tensor(photograph("coffee", 64))[None], ["one"], "image")
    for first, second in itertools.pairwise(rows[2:]):  # the lowest qualities are all but one colour
        assert first.psnr < second.psnr
        assert first.scan_bits_per_pixel < second.scan_bits_per_pixel < second.bits_per_pixel


def test_the_header_is_the_same_for_all_images_of_a_quality(photograph: Photograph) -> None:
    for quality in (1, 50, 95):
        files = [encode(photograph(name, 64), quality) for name in ("astronaut", "coffee", "chelsea")]
        assert len({len(file) - scan_bytes(file) for file in files}) == 1
        assert len({file[: len(file) - scan_bytes(file) - 2] for file in files}) == 1


def test_the_scan_of_a_grey_picture_is_a_few_bits_a_block() -> None:
    """64 blocks of 16×16 pixels, each at least 4 + 2 blocks of 8×8 with 2 codes of 2 to 4 bits."""
    file = encode(np.full((128, 128, 3), 128, np.uint8), 50)
    assert 64 * 6 * 4 / 8 <= scan_bytes(file) <= 64 * 6 * 8 / 8
    assert 500 < len(file) - scan_bytes(file) < 700


def test_the_published_protocol_scores_the_normalised_image(photograph: Photograph) -> None:
    pixels = photograph("astronaut", 64)
    row = jpeg_scores(torch.tensor(pixels)[None], ["one"], "published")[5]
    decoded = np.asarray(Image.open(io.BytesIO(encode(pixels, row.quality))))
    one, other = (np.clip((each / 255 - IMAGENET.mean) / IMAGENET.std, 0, 1) for each in (pixels, decoded))
    assert row.psnr == pytest.approx(psnr(one, other, 1), abs=1e-4)
