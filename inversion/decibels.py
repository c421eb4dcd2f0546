"""What a PSNR counts as where several are put together: an image that is rebuilt exactly has an infinite one.

In means, standard deviations, intervals and tests an image counts as ``EXACT_DB`` at most. Left out instead, a decoder
would lose its best image in the moment in which that becomes exact, and two decoders would be compared on different
images. libvpx and libaom limit PSNR to the same 100 dB (``MAX_PSNR``).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EXACT_DB = 100.0
"""A mean squared error of 1e-10: a root of 1e-5, a 390th of a grey level of 8 bits. From here on an image is exact."""


def counted(psnr: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """PSNRs in dB as they count in means: finite, unless they are NaN or minus infinity, which nothing hides."""
    return np.minimum(np.asarray(psnr, np.float64), EXACT_DB)


def is_a_mean(psnr: float) -> bool:
    """Whether a logged mean is one of counted PSNRs: earlier versions logged 1.8e308 for an exact image, or NaN."""
    return psnr <= EXACT_DB


def count_exact(psnr: npt.ArrayLike) -> int:
    """How many of these images count as exact."""
    return int((np.asarray(psnr, np.float64) >= EXACT_DB).sum())


def decibels(psnr: float) -> str:
    """The PSNR of one image for people: ``23.45 dB``, or ``exact``."""
    return "exact" if psnr >= EXACT_DB else f"{psnr:.2f} dB"


def exact_note(exact: int) -> str:
    """What stands beside a mean that so many exact images are in; empty for none."""
    return f"{exact} {'images' if exact > 1 else 'image'} exact, counted as {EXACT_DB:.0f} dB" if exact else ""
