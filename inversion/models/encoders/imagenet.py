"""The ImageNet weights of encoders: their names, locations and availability.

This module does not import PyTorch; it imports timm only for ``timm/NAME``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from inversion.errors import WeightsError
from inversion.models.encoders.catalog import EncoderCut, encoder_spec
from inversion.models.encoders.pretrained_files import (
    HUB_FILES,
    Location,
    Status,
    location_status,
    usable_file,
)
from inversion.models.encoders.specs import TIMM_PREFIX


def imagenet_name(encoder: str) -> str:
    """The name of the weights: torchvision's file name, which contains a hash, or timm's name with its tag."""
    spec = encoder_spec(encoder)
    if spec.source == "torchvision":
        return PurePosixPath(spec.weights_url).name
    return TIMM_PREFIX + spec.weights


def imagenet_location(encoder: str) -> Location:
    """The location from which torchvision or timm loads the encoder's ImageNet weights.

    Raises:
        WeightsError: the model has no ImageNet weights.
    """
    spec = encoder_spec(encoder)
    if spec.source == "torchvision":
        return Location(url=spec.weights_url)
    if not encoder.startswith(TIMM_PREFIX):
        return Location(repo=f"timm/{spec.weights}")
    from inversion.models.encoders import _timm_models

    url, repo, files = _timm_models.weights_location(spec.weights)
    if not (url or repo):
        raise WeightsError(f"timm has no pretrained weights for {encoder}: use weights=random or a file")
    return Location(url, repo, files or HUB_FILES)


def imagenet_status(cut: EncoderCut) -> Status:
    """Whether the encoder's ImageNet weights are cached on this machine, downloadable, or unreachable.

    An encoder from outside this package brings its own weights, which counts as cached.

    ``unreachable`` means that there is no connection: no name resolution, connection refused, a timeout (3 s), or
    ``HF_HUB_OFFLINE``. Proxies are used. If the server is busy, the request is retried for a few seconds.

    Raises:
        WeightsError: the server answered with an error; the message has the URL and the status.
    """
    if cut.spec.source == "outside":
        return "cached"
    return location_status(imagenet_location(cut.encoder))


def require_imagenet(cut: EncoderCut) -> None:
    """Fails fast if the server is unreachable, where the libraries' loaders would retry many times or wait forever.

    Raises:
        WeightsError: the weights are neither cached nor downloadable; the message lists the alternatives.
    """
    if imagenet_status(cut) == "unreachable":
        raise WeightsError(f"{_called(cut.encoder)} of {cut.encoder} ({imagenet_name(cut.encoder)}) are not cached, "
                           "and their server is unreachable: connect, or set TORCH_HOME and HF_HOME to folders that "
                           "have them, or give weights=FILE, or weights=random")


def _called(encoder: str) -> str:
    """What the weights are called in messages: those of ``timm/NAME`` may be trained on anything."""
    return "pretrained weights" if encoder.startswith(TIMM_PREFIX) else "ImageNet weights"


@contextmanager
def cached_imagenet(cut: EncoderCut) -> Iterator[Path]:
    """Yields the path of the weights file, downloaded if it is not cached.

    Any exception in the block becomes a WeightsError with the path.

    Raises:
        WeightsError: the weights cannot be downloaded or loaded.
    """
    of_timm = f" (timm's {cut.spec.weights})" if cut.spec.source == "timm" else ""
    with usable_file(imagenet_location(cut.encoder), f"{_called(cut.encoder)} of {cut.encoder}{of_timm}") as path:
        yield path
