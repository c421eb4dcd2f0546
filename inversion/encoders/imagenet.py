"""Whether an encoder's ImageNet weights are at hand: in torchvision's or Hugging Face's cache, or to be had.

Nothing here imports PyTorch; timm is imported only for ``timm/NAME``. The loading itself is torchvision's and timm's.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

from inversion.encoders.catalog import TIMM_PREFIX, EncoderCut, encoder_spec
from inversion.errors import WeightsError

Status = Literal["cached", "downloadable", "unreachable"]

PROBE_SECONDS = 3.0
REMEMBERED_SECONDS = 60.0

TORCHVISION_URLS = {
    "VGG16_Weights.IMAGENET1K_V1": "https://download.pytorch.org/models/vgg16-397923af.pth",
    "ResNet34_Weights.IMAGENET1K_V1": "https://download.pytorch.org/models/resnet34-b627a593.pth",
}
"""torchvision's own addresses, repeated so that they are known without importing it (a test compares them)."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""The files that timm looks for in a Hugging Face repository, in its order."""


@dataclass(frozen=True)
class Location:
    """Where ImageNet weights lie: a file at ``url``, or one of ``files`` in the Hugging Face repository ``repo``."""

    url: str = ""
    repo: str = ""
    files: tuple[str, ...] = HUB_FILES


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
    from inversion.encoders import _timm_models

    url, repo, files = _timm_models.weights_location(spec.weights)
    if not (url or repo):
        raise WeightsError(f"timm has no pretrained weights for {encoder}: use weights=random or a file")
    return Location(url, repo, files or HUB_FILES)


def imagenet_status(cut: EncoderCut) -> Status:
    """Whether the encoder's ImageNet weights are on this machine, to be downloaded, or out of reach.

    ``unreachable`` means that no connection came about: no name resolution, refused, timed out (after 3 s), or offline
    by ``HF_HUB_OFFLINE``. Proxies are honoured.

    Raises:
        WeightsError: the server answered, but not with the weights; the message has the URL and the status.
    """
    return location_status(imagenet_location(cut.encoder))


def location_status(location: Location) -> Status:
    """The same for any location of weights."""
    if cached_file(location):
        return "cached"
    return _probe(tuple(_urls(location)), int(time.monotonic() / REMEMBERED_SECONDS))


def require_imagenet(cut: EncoderCut) -> None:
    """Fails at once where the loaders would try again and again, or wait without a limit, for a server out of reach.

    Raises:
        WeightsError: the weights are neither cached nor downloadable; the message says what can be done.
    """
    if imagenet_status(cut) == "unreachable":
        raise WeightsError(f"ImageNet weights of {cut.encoder} ({imagenet_name(cut.encoder)}) are not cached, and "
                           "their server is out of reach: connect, or set TORCH_HOME and HF_HOME to folders that have "
                           "them, or give weights=FILE, or weights=random")


def torch_checkpoints() -> Path:
    """The folder in which torchvision keeps what it downloads, by the rules of ``torch.hub.get_dir``."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def cached_file(location: Location) -> Path | None:
    """The weights in torchvision's or Hugging Face's cache, if they are there."""
    if not location.repo:
        file = torch_checkpoints() / PurePosixPath(urlsplit(location.url).path).name
        return file if file.is_file() else None
    import huggingface_hub

    repo, _, revision = location.repo.partition("@")
    for name in location.files:
        cached = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(cached, str):  # a file known to be absent from the repository is an object that is no path
            return Path(cached)
    return None


def _urls(location: Location) -> list[str]:
    """Where to ask; nowhere when Hugging Face's library is told to stay offline."""
    if not location.repo:
        return [location.url]
    import huggingface_hub
    from huggingface_hub import constants

    repo, _, revision = location.repo.partition("@")
    names = () if constants.HF_HUB_OFFLINE else location.files
    return [huggingface_hub.hf_hub_url(repo, name, revision=revision or None) for name in names]


@cache
def _probe(urls: tuple[str, ...], minute: int) -> Status:
    """Asks for the first of the files, and for the next only where the server does not have it.

    An answer is good for the ``minute``: a sweep asks for every one of its runs, and each may take seconds.
    """
    import requests

    if not urls:
        return "unreachable"
    url = urls[0]
    try:
        answer = requests.head(url, timeout=PROBE_SECONDS, allow_redirects=True)
    except requests.exceptions.SSLError as error:
        raise WeightsError(f"{url}: no trusted connection to the server ({error})") from error
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
        return "unreachable"
    except requests.exceptions.RequestException as error:
        raise WeightsError(f"{url} cannot be asked for the weights: {error}") from error
    if answer.status_code == 404 and len(urls) > 1:
        return _probe(urls[1:], minute)
    if answer.status_code >= 400:
        raise WeightsError(f"{url} answered with HTTP status {answer.status_code} where ImageNet weights should be: "
                           "put the file into the cache by hand, or give weights=FILE")
    return "downloadable"
