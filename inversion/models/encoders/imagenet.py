"""The ImageNet weights of encoders: what they are called, where they are, and whether they can be had.

Nothing here imports PyTorch; timm is imported only for ``timm/NAME``.
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
    damaged_download,
    fetch,
    location_status,
)
from inversion.models.encoders.specs import TIMM_PREFIX
from inversion.text import reason

TORCHVISION_URLS = {
    "VGG16_Weights.IMAGENET1K_V1": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "ResNet34_Weights.IMAGENET1K_V1": "https://download.pytorch.org/models/resnet34-b627a593.pth",
}
"""torchvision's own addresses, repeated so that they are known without importing it (a test compares them)."""


def imagenet_name(encoder: str) -> str:
    """The weights by torchvision's file name, which holds a hash, or by timm's name with its tag."""
    spec = encoder_spec(encoder)
    if spec.source == "torchvision":
        return PurePosixPath(TORCHVISION_URLS[spec.weights]).name
    return TIMM_PREFIX + spec.weights


def imagenet_location(encoder: str) -> Location:
    """Where torchvision or timm gets the encoder's ImageNet weights from.

    Raises:
        WeightsError: there are none for this model.
    """
    spec = encoder_spec(encoder)
    if spec.source == "torchvision":
        return Location(url=TORCHVISION_URLS[spec.weights])
    if not encoder.startswith(TIMM_PREFIX):
        return Location(repo=f"timm/{spec.weights}")
    from inversion.models.encoders import _timm_models

    url, repo, files = _timm_models.weights_location(spec.weights)
    if not (url or repo):
        raise WeightsError(f"timm has no pretrained weights for {encoder}: use weights=random or a file")
    return Location(url, repo, files or HUB_FILES)


def imagenet_status(cut: EncoderCut) -> Status:
    """Whether the encoder's ImageNet weights are on this machine, to be downloaded, or out of reach.

    ``unreachable`` means that no connection came about: no name resolution, refused, timed out (after 3 s), or offline
    by ``HF_HUB_OFFLINE``. Proxies are honoured.

    A server that is busy is asked again, a few times within some seconds.

    Raises:
        WeightsError: the server answered, but not with the weights; the message has the URL and the status.
    """
    return location_status(imagenet_location(cut.encoder))


def require_imagenet(cut: EncoderCut) -> None:
    """Fails at once where the loaders would try again and again, or wait without a limit, for a server out of reach.

    Raises:
        WeightsError: the weights are neither cached nor downloadable; the message says what can be done.
    """
    if imagenet_status(cut) == "unreachable":
        raise WeightsError(f"ImageNet weights of {cut.encoder} ({imagenet_name(cut.encoder)}) are not cached, and "
                           "their server is out of reach: connect, or set TORCH_HOME and HF_HOME to folders that have "
                           "them, or give weights=FILE, or weights=random")


@contextmanager
def cached_imagenet(cut: EncoderCut) -> Iterator[Path]:
    """The file, downloaded if it is not cached; what goes wrong with it inside the block is told with its path.

    Raises:
        WeightsError: the weights cannot be had, or cannot be loaded.
    """
    path = fetch(imagenet_location(cut.encoder))
    try:
        yield path
    except Exception as error:  # files, unpicklers and models fail in too many ways to list
        why = str(error) if isinstance(error, WeightsError) else reason(error)
        of_timm = f" (timm's {cut.spec.weights})" if cut.spec.source == "timm" else ""
        raise damaged_download(f"ImageNet weights of {cut.encoder}{of_timm}", path, why) from error
