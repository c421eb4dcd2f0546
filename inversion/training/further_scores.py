"""Scores of the test images besides PSNR, SSIM and LPIPS: MS-SSIM, LPIPS-VGG, DISTS, the encoders' own view, and
metrics of the user's own.

They are computed at the end of a run only. Training optimises none of them.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from inversion.losses.dists import Dists
from inversion.losses.lpips_vgg import LpipsVgg
from inversion.metrics import feature_scores
from inversion.multiscale import SMALLEST_SIDE, ms_ssim
from inversion.text import reason
from inversion.training.device import Engine
from inversion.training.memory import is_out_of_memory

_logger = logging.getLogger(__name__)


class VggMetrics(NamedTuple):
    """Distances ``(B,)`` of images from targets, by the names of their scores."""

    lpips_vgg: LpipsVgg
    dists: Dists


Encode = Callable[[Tensor], Sequence[Tensor]]


class FurtherScores:
    """Computes the scores of ``inversion.metrics.FURTHER`` that can be had for these images; says why others cannot.

    Args:
        engine: device, precision and protocol.
        image_size: the side of the images, in pixels.
        vgg: the metrics in VGG16's features.
        why_no_vgg: why there are none.
        own: metrics of the user's own by their names, which give a value ``(B,)`` for images and targets.
    """

    def __init__(self, engine: Engine, image_size: int, vgg: VggMetrics | None = None, why_no_vgg: str = "",
                 own: Mapping[str, nn.Module] | None = None) -> None:
        self.engine = engine
        self.own = {name: metric.to(engine.device) for name, metric in (own or {}).items()}
        self._faults: dict[str, str] = {}
        self.has_scales = image_size >= SMALLEST_SIDE
        self.has_features = engine.protocol == "image"
        self.vgg = VggMetrics(vgg.lpips_vgg.to(engine.device), vgg.dists.to(engine.device)) if vgg else None
        self.absent = []
        """Why scores are left out, a phrase each."""
        if not self.has_scales:
            self.absent.append(f"no MS-SSIM: its five scales need images of {SMALLEST_SIDE} pixels")
        if why_no_vgg:
            self.absent.append(f"no LPIPS-VGG, no DISTS: {why_no_vgg}")
        if not self.has_features:
            self.absent.append("no feature scores: what protocol=published reconstructs is not an image that the "
                               "encoders could be given")

    @torch.no_grad()
    def score(self, reconstructions: Tensor, targets: Tensor, features: Sequence[Tensor], encode: Encode
              ) -> dict[str, list[float]]:
        """The scores of a batch by name, one value per image.

        Args:
            reconstructions: images ``(B, 3, S, S)``.
            targets: what they are scored against, of the same shape.
            features: the raw features of the originals, one ``(B, Ci, hi, wi)`` per encoder.
            encode: gives the features of images.
        """
        found: dict[str, list[float]] = {}
        if self.has_scales:
            found["ms_ssim"] = ms_ssim(reconstructions, targets).tolist()
        if self.vgg:
            with self.engine.autocast():
                found |= {name: metric(reconstructions, targets).tolist()
                          for name, metric in self.vgg._asdict().items()}
        if self.has_features:
            with self.engine.autocast():
                others = encode(reconstructions.contiguous(memory_format=torch.channels_last))
            cosine, error = feature_scores(features, others)
            found |= {"feature_cosine": cosine.tolist(), "feature_error": error.tolist()}
        return found | {name: self._own(name, reconstructions, targets) for name in self.own}

    def _own(self, name: str, reconstructions: Tensor, targets: Tensor) -> list[float]:
        """The values of a user's own metric; NaN where its code fails, which must not cost the run its other scores."""
        try:
            values: list[float] = self.own[name](reconstructions, targets).tolist()
        except Exception as error:  # of whatever kind: it is not our code
            if isinstance(error, RuntimeError) and is_out_of_memory(error):
                raise
            self._faults.setdefault(name, reason(error))
            return [math.nan] * len(reconstructions)
        return values

    def leave_out(self, own: dict[str, list[float]], names: Sequence[str]) -> None:
        """Removes the metrics of the user's own that are not finite for all images, with a warning for each.

        Args:
            own: the values by the metric's name.
            names: the names of the images.
        """
        for metric, values in list(own.items()):
            for image, value in zip(names, values, strict=True):
                if not math.isfinite(value):
                    _logger.warning("the metric %s is left out: %s", metric,
                                    self._faults.get(metric) or f"for test image {image} it is {value}")
                    del own[metric]
                    break
