"""The tensors of a cut encoder from where its trained weights lie: a file, or ImageNet's in a cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from inversion.encoders.catalog import EncoderCut
from inversion.encoders.imagenet import damaged_download, fetch, imagenet_location, imagenet_name
from inversion.encoders.state_dict import read_state_dict
from inversion.encoders.weights import WeightsSource
from inversion.errors import WeightsError

Fit = Callable[[Mapping[str, Tensor], str], dict[str, Tensor]]
"""Chooses of what was found what is needed; the text begins its messages."""


def state_of(cut: EncoderCut, source: WeightsSource, fit: Fit) -> dict[str, Tensor]:
    """The state dict of the cut from a file, or from ImageNet's weights, which are downloaded if they are not cached.

    Raises:
        WeightsError: the weights cannot be had, or do not fit.
    """
    if source.path is not None:
        return fit(read_state_dict(source.path, source.part), f"weights {source} do not fit {cut}")
    path = fetch(imagenet_location(cut.encoder))
    try:
        return fit(read_state_dict(path), f"{imagenet_name(cut.encoder)} does not fit {cut}")
    except WeightsError as error:
        of_timm = f" (timm's {cut.spec.weights})" if cut.spec.source == "timm" else ""
        raise damaged_download(f"ImageNet weights of {cut.encoder}{of_timm}", path, error) from error
