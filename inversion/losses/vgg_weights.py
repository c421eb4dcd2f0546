"""The source of VGG16's weights for LPIPS-VGG and DISTS: the parameter ``vgg_weights``.

This module does not import PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from inversion.errors import WeightsError
from inversion.files import why_not_there
from inversion.models.encoders.catalog import EncoderCut
from inversion.models.encoders.imagenet import imagenet_location
from inversion.models.encoders.pretrained_files import cached_file
from inversion.models.encoders.weights import WeightsSource, parse_weights

WHOLE = EncoderCut("vgg16", "block5")
"""All 13 convolutions."""

MOST_PIXELS = 2**19
"""``auto`` on a CPU scores at most so many pixels of test images: 128 images of 64 pixels, 10 of 224.

VGG16 takes about 0.5 s for 65,536 pixels on two cores, many times what all other scores take (docs/metrics.md).
"""

KEYWORDS = ("auto", "imagenet", "off")
ALLOWED = f"{', '.join(KEYWORDS)}, or a state-dict file of VGG16"


def require_vgg(text: str) -> None:
    """Checks that the file of ``vgg_weights`` exists; the keywords always pass.

    Raises:
        WeightsError: there is no such file, or the weights are random, whose distances mean nothing.
    """
    if text not in KEYWORDS:
        _parse(text)


def absolute_vgg(text: str) -> str:
    """``vgg_weights`` with an absolute path, since a run may be resumed from another folder."""
    return text if text in KEYWORDS else str(_parse(text))


def find_vgg(text: str, own: Mapping[str, WeightsSource], pixels: int, on_cpu: bool
             ) -> tuple[WeightsSource | None, str]:
    """The weights to use, or None and why not.

    Args:
        text: the parameter ``vgg_weights``.
        own: the weights of the run's encoders, by encoder.
        pixels: the number of pixels of all images to score.
        on_cpu: whether they are scored on a CPU, where ``auto`` keeps within ``MOST_PIXELS``.

    Raises:
        WeightsError: a file that was given does not exist.
    """
    if text == "off":
        return None, "vgg_weights=off"
    if text == "imagenet":
        return WeightsSource("vgg16", "imagenet"), ""
    if text != "auto":
        return _parse(text), ""
    vgg = own.get("vgg16")
    source = vgg if vgg and vgg.kind == "file" else None
    if source is None and cached_file(imagenet_location("vgg16")):
        source = WeightsSource("vgg16", "imagenet")
    if source is None:
        return None, "VGG16's weights are not at hand; give vgg_weights=FILE"
    if on_cpu and pixels > MOST_PIXELS:
        return None, (f"{pixels / 1e6:.1f} million pixels take a CPU minutes; vgg_weights={source} computes them "
                      "nevertheless")
    return source, ""


def _parse(text: str) -> WeightsSource:
    try:
        source = parse_weights(text, [WHOLE])["vgg16"]
    except WeightsError as error:
        if why := why_not_there(Path(os.path.expanduser(text))):  # not a folder or a damaged file
            raise WeightsError(f"vgg_weights: {text!r}: {why}. Allowed: {ALLOWED}.") from error
        raise WeightsError(f"vgg_weights: {str(error).removeprefix('weights ')}") from error
    if source.kind == "random":
        raise WeightsError(f"vgg_weights={text}: distances in random features mean nothing. Allowed: {ALLOWED}.")
    return source
