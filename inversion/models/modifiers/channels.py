"""Linear projection to fewer channels, random (16) or by PCA (pca:16): fewer values, the same locations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from inversion.errors import RequestError, UnknownNameError
from inversion.models import FeatureShape
from inversion.models.modifiers import Modifier, modifiers, whole_number
from inversion.seeds import generator

if TYPE_CHECKING:
    from torch import Tensor

    from inversion.models.modifiers._base import Normal

MOST = 4096
PCA = "pca"
SEED = 0
"""Of the random projection: the same for all runs, so that seeds of a run differ in training alone."""


@modifiers.register("channels")
@dataclass(frozen=True)
class Channels(Modifier):
    """The same orthonormal projection at every location: ``(B, C, h, w)`` to ``(B, count, h, w)``, ``W (x - m)``.

    The rows of W ``(count, C)`` are orthonormal.

    - Random: the span is uniformly distributed (Q of the QR decomposition of a Gaussian matrix: Mezzadri, "How to
      generate random matrices from the classical compact groups", 2007, https://arxiv.org/abs/math-ph/0609050), and
      m = 0. It keeps ``count / C`` of the features' energy in expectation, and needs no data.
    - PCA: m is the mean, and the rows are the eigenvectors of the largest eigenvalues of the covariance over all
      locations of the calibration images: of all projections to so many channels, the one with the smallest squared
      error on these. It is not whitened. Each row's entry of the largest magnitude is positive.
    """

    count: int
    by_pca: bool = False
    name: ClassVar[str] = "channels"
    examples: ClassVar[tuple[str, ...]] = ("16", "pca:16")
    allowed: ClassVar[str] = "a whole number, 1 or more, at most the map's channels; also as pca:16"

    @property
    def is_calibrated(self) -> bool:
        return self.by_pca

    @classmethod
    def parse(cls, value: str) -> Self:
        kind, colon, count = (piece.strip() for piece in value.partition(":"))
        if colon and kind != PCA:
            raise UnknownNameError("modifier channels: unknown projection", kind, [PCA])
        return cls(whole_number(cls, count if colon else kind, 1, MOST), by_pca=bool(colon))

    @property
    def value(self) -> str:
        return f"{PCA}:{self.count}" if self.by_pca else str(self.count)

    def shape(self, features: FeatureShape) -> FeatureShape:
        if self.count > features.channels:
            raise RequestError(f"{self} is more than the {features.channels} channels of the map. Allowed here: 1 to "
                               f"{features.channels}.")
        return features._replace(channels=self.count)

    def state(self, features: FeatureShape) -> dict[str, Tensor]:
        import torch

        if self.by_pca:
            return {"projection": torch.eye(self.count, features.channels), "mean": torch.zeros(features.channels)}
        return {"projection": _random_rows(self.count, features.channels)}

    def fit(self, maps: Iterator[Tensor]) -> dict[str, Tensor]:
        import torch

        mean, covariance = _moments(maps)
        _, vectors = torch.linalg.eigh(covariance)  # in the order of ascending eigenvalues
        rows = vectors.flip(1)[:, : self.count].T
        largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
        return {"projection": (rows * largest.sign()).float(), "mean": mean.float()}

    def apply(self, features: Tensor, state: Mapping[str, Tensor], normal: Normal | None) -> Tensor:
        from torch.nn import functional as F

        if self.by_pca:
            features = features - state["mean"].view(-1, 1, 1)
        return F.conv2d(features, state["projection"][:, :, None, None])


def _random_rows(count: int, channels: int) -> Tensor:
    """Orthonormal rows ``(count, channels)``; in double precision, so that the digits kept are equal on all CPUs."""
    import torch

    chance = generator(SEED, "channels", count, channels)
    gaussian = torch.randn(channels, count, generator=chance, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    rows: Tensor = (q * r.diagonal().sign()).T.float().contiguous()
    return rows


def _moments(maps: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean ``(C,)`` and covariance ``(C, C)`` over images and locations, in double precision on the CPU.

    Accumulated around the mean of the first batch: sums of raw squares would cancel where the mean is large.
    """
    import torch

    shift, zero = None, torch.zeros((), dtype=torch.float64)
    number, total, products = 0, zero, zero
    for features in maps:
        values = features.double().cpu().movedim(1, 0).flatten(1)  # (C, B·h·w)
        shift = values.mean(1) if shift is None else shift
        values = values - shift[:, None]
        number += values.shape[1]
        total = total + values.sum(1)
        products = products + values @ values.T
    if shift is None:
        raise ValueError("no images to fit the projection on")
    mean = total / number
    return shift + mean, products / number - mean.outer(mean)
