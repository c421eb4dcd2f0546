"""ImageNet's weights as a file in the cache of their library."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inversion.errors import WeightsError
from inversion.models.encoders.catalog import EncoderCut
from inversion.models.encoders.imagenet import damaged_download, fetch, imagenet_location
from inversion.models.encoders.state_dict import reason


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
