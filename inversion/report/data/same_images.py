"""Whether two runs were scored on the same images, by what the runs say of their content."""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image

from inversion.report.data.collect import pictures_of
from inversion.report.data.study import ReportRun
from inversion.tracking.connection import Connection

ROUNDING = 1.0
"""Largest mean difference in grey levels between JPEG files of one image from different library versions."""


def same_images(connection: Connection, one: ReportRun, other: ReportRun) -> bool:
    """Whether two runs with the same image size were scored on the same set of images.

    Their names are equal, and so is the content: the digest of the whole data set, or else the pictures of the test
    images that both logged. Without either, they are not known to be the same.
    """
    if one.images != other.images:
        return False
    if one.document["identity"]["data"] == other.document["identity"]["data"]:
        return True
    return bool(pictures_agree(connection, one, other, one.images))


def pictures_agree(connection: Connection, one: ReportRun, other: ReportRun, images: Iterable[str]) -> bool | None:
    """Whether the pictures that both runs logged of some images are the same; None if there are none."""
    mine, its = (pictures_of(connection, run.run_id) or {} for run in (one, other))
    common = [image for image in images if image in mine and image in its]
    return all(_alike(mine[image][0], its[image][0]) for image in common) if common else None


def _alike(first: bytes, second: bytes) -> bool:
    if first == second:
        return True
    a, b = (np.asarray(Image.open(io.BytesIO(file)).convert("RGB"), np.int16) for file in (first, second))
    return a.shape == b.shape and float(np.abs(a - b).mean()) < ROUNDING
