"""Scores of a reconstruction, one number per image, and the list of all of them: ``METRICS``.

PSNR, SSIM and mean squared error are functions here; they take images ``(B, 3, H, W)`` in [0, 1], not rounded to 8
bits, and are computed in float64 on the images' device. MS-SSIM is in ``inversion.multiscale``; those that need
networks are in ``inversion.losses``. Importing this module does not import PyTorch or NumPy.

An image that is reconstructed exactly has an infinite PSNR. In means, standard deviations, confidence intervals and
tests its PSNR is capped at ``EXACT_DB``: left out instead, a decoder would lose its best image once that becomes exact,
and two decoders would be compared on different images. libvpx and libaom cap PSNR at the same 100 dB (``MAX_PSNR``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

WINDOW = 7
K1, K2 = 0.01, 0.03
SMALLEST_NORM = 1e-12

EXACT_DB = 100.0
"""A mean squared error of 1e-10: a root of 1e-5, a 390th of a grey level of 8 bits. From here on an image is exact."""


class Metric(NamedTuple):
    """A score of the test images: how people see it, and which direction is better."""

    label: str
    better: Literal["higher", "lower"]
    digits: int
    """Digits after the point in tables."""


METRICS: Mapping[str, Metric] = {
    "psnr": Metric("PSNR (dB)", "higher", 2),
    "ssim": Metric("SSIM", "higher", 3),
    "lpips": Metric("LPIPS", "lower", 3),
    "ms_ssim": Metric("MS-SSIM", "higher", 3),
    "lpips_vgg": Metric("LPIPS-VGG", "lower", 3),
    "dists": Metric("DISTS", "lower", 3),
    "feature_cosine": Metric("feature cosine", "higher", 3),
    "feature_error": Metric("feature error", "lower", 3),
}
"""Every metric ``test/NAME``, in the order of tables; docs/metrics.md defines them. Every run has the first two.

Training optimises LPIPS, so it is not an independent judge of what was trained with it.
"""

BASIC = ("psnr", "ssim", "lpips")
"""Those of the published study, which every page and table shows."""

FURTHER = tuple(name for name in METRICS if name not in BASIC)
"""Those that are computed at the end of a run only, and that runs of earlier versions do not have."""

RESERVED = frozenset({*METRICS, "image", "mse", "loss", "exact_images"})
"""Names that a metric or a loss of a user's own cannot have: they are logged, or are columns of tables."""

FLOORS: Mapping[str, str] = {"training_colour": "one colour for all images", "mean_colour": "mean colour of each image",
                             "bicubic": "bicubic thumbnail"}
"""Images that no encoder is needed for (``inversion.training.floors``), with what they are.

Every run logs their mean PSNR as ``floor/NAME_psnr``, and that of each test image in a column (``floor_column``).
"""


OWN_DIGITS = 3
"""Digits of a user's own metric in tables."""


def own_metrics(document: Mapping[str, Any]) -> dict[str, Metric]:
    """The metrics of a user's own that a run was asked for, by the names under which they are logged.

    ``document`` is the run's configuration. Their code is not needed.
    """
    return {name: Metric(name, said["better"], OWN_DIGITS) for name, said in document.get("metrics", {}).items()}


def floor_column(name: str) -> str:
    """The column of a floor's PSNR in the table of test images."""
    return f"floor_{name}_psnr"


def mse(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of each image: ``(B,)``."""
    return (images.double() - targets.double()).square().mean(dim=(1, 2, 3))


def psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB for a data range of 1: ``(B,)``; infinite where both are equal."""
    return -10 * mse(images, targets).log10()


def ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image, ``(B,)``, at most 1.

    scikit-image's defaults: uniform 7×7 window, sample covariance, data range 1, mean over the pixels whose window lies
    inside the image, then over the channels. Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error
    visibility to structural similarity", IEEE TIP 13(4), 2004.

    Raises:
        ValueError: an image smaller than the window.
    """
    if min(images.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs images of at least {WINDOW}×{WINDOW} pixels, not {tuple(images.shape[-2:])}")
    x, y = (values.double().contiguous() for values in (images, targets))
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variance_x = unbiased * (_window_mean(x * x) - mean_x * mean_x)
    variance_y = unbiased * (_window_mean(y * y) - mean_y * mean_y)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


def feature_scores(features: Sequence[Tensor], others: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """How alike the features of images and of their reconstructions are: cosine and relative error, each ``(B,)``.

    ``features`` are f(x), ``others`` f(x̂), one ``(B, Ci, hi, wi)`` per encoder, over all of whose values an image's
    ⟨f(x), f(x̂)⟩ / (‖f(x)‖ ‖f(x̂)‖) and ‖f(x) − f(x̂)‖ / ‖f(x)‖ are taken, with sums in float64; of several encoders, the
    mean, so that each counts the same. Equal features have cosine 1 and error 0, also where all of them are 0.
    """
    import torch

    cosines, errors = [], []
    for one, other in zip(features, others, strict=True):
        # channels last, as encoders return them: a view, where flatten would copy
        first, second = (values.float().movedim(1, -1).flatten(1) for values in (one, other))
        norm, length = (_norm(values).clamp_min(SMALLEST_NORM) for values in (first, second))
        error = _norm(first - second)
        cosine = ((first * second).sum(1, dtype=torch.float64) / (norm * length)).clamp(-1, 1)
        cosines.append(cosine.where(error > 0, cosine.new_ones(())))
        errors.append(error / norm)
    return sum(cosines[1:], cosines[0]) / len(cosines), sum(errors[1:], errors[0]) / len(errors)


def _norm(values: Tensor) -> Tensor:
    """Euclidean norm of each row, summed in float64."""
    import torch

    norm: Tensor = torch.linalg.vector_norm(values, dim=1, dtype=torch.float64)
    return norm


def counted(psnr: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """PSNRs in dB as they count in means: finite, unless they are NaN or minus infinity, which nothing hides."""
    import numpy as np

    return np.minimum(np.asarray(psnr, np.float64), EXACT_DB)


def is_a_mean(psnr: float) -> bool:
    """Whether a logged mean is one of counted PSNRs: earlier versions logged 1.8e308 for an exact image, or NaN."""
    return psnr <= EXACT_DB


def count_exact(psnr: npt.ArrayLike) -> int:
    """How many of these images count as exact."""
    import numpy as np

    return int((np.asarray(psnr, np.float64) >= EXACT_DB).sum())


def decibels(psnr: float) -> str:
    """The PSNR of one image for people: ``23.45 dB``, or ``exact``."""
    return "exact" if psnr >= EXACT_DB else f"{psnr:.2f} dB"


def exact_note(exact: int) -> str:
    """What stands beside a mean that so many exact images are in; empty for none."""
    return f"{exact} {'images' if exact > 1 else 'image'} exact, counted as {EXACT_DB:.0f} dB" if exact else ""


def _window_mean(values: Tensor) -> Tensor:
    """Means over 7×7 windows in the last two dimensions: a fifth of the time of ``avg_pool2d`` in float64."""
    return _sum_of_seven(_sum_of_seven(values, -2), -1).div_(WINDOW**2)


def _sum_of_seven(values: Tensor, dim: int) -> Tensor:
    """Sums of seven neighbours, as 4 + 2 + 1 of them."""
    size = values.shape[dim]
    two = values.narrow(dim, 0, size - 1) + values.narrow(dim, 1, size - 1)
    four = two.narrow(dim, 0, size - 3) + two.narrow(dim, 2, size - 3)
    six = four.narrow(dim, 0, size - 6) + two.narrow(dim, 4, size - 6)
    return six.add_(values.narrow(dim, 6, size - 6))
