"""The source of LPIPS's AlexNet weights: the parameter ``lpips_weights``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inversion.errors import WeightsError
from inversion.files import ABSENT, file_sha256, why_not_there
from inversion.models.encoders.pretrained_files import Location, cached_file, location_status, usable_file
from inversion.models.encoders.weights import find_file, with_part

if TYPE_CHECKING:
    from torch import Tensor

    from inversion.losses.lpips import LPIPS

ALEXNET = Location(url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth", option="lpips_weights")
"""torchvision's ``AlexNet_Weights.IMAGENET1K_V1``, which the linear layers of the ``lpips`` package were fitted to."""


@dataclass(frozen=True)
class TrunkSource:
    """``imagenet`` (torchvision's file and cache) if ``path`` is None, else a state-dict file or a part of it."""

    path: Path | None = None
    part: str = ""

    def __str__(self) -> str:
        return with_part(self.path, self.part) if self.path else "imagenet"

    def identity(self) -> str:
        """Text that is equal for equal weights only; for a file, it depends on the content alone."""
        return with_part(f"sha256:{file_sha256(self.path)}", self.part) if self.path else ALEXNET.url.rpartition("/")[2]

    def load(self) -> LPIPS:
        """Loads LPIPS with this trunk; ImageNet weights are downloaded if they are not cached.

        Raises:
            WeightsError: the file is not an AlexNet state dict, or the ImageNet weights cannot be downloaded.
        """
        from inversion.losses.lpips import LPIPS
        from inversion.models.encoders.state_dict import fit, read_state_dict

        if self.path is not None:
            what = f"lpips_weights {self} do not fit AlexNet (needed for LPIPS)"
            return LPIPS(fit(_convolutions(), read_state_dict(self.path, self.part), what), str(self))
        with usable_file(ALEXNET, "ImageNet weights of AlexNet, for LPIPS,") as path:
            trunk = fit(_convolutions(), read_state_dict(path), f"{path.name} does not fit")
        return LPIPS(trunk, "imagenet")

    def check(self) -> None:
        """Loads the trunk once as a check, if it is on this machine.

        Raises:
            WeightsError: it cannot be loaded.
        """
        if self.path is not None or cached_file(ALEXNET):
            self.load()


def find_trunk(text: str) -> TrunkSource | None:
    """Resolves the parameter ``lpips_weights``; None for ``off``, and for ``auto`` if the server is unreachable.

    Raises:
        WeightsError: the file does not exist, or ``imagenet`` is neither cached nor reachable.
    """
    if text == "off":
        return None
    if text in ("auto", "imagenet"):
        if cached_file(ALEXNET) or location_status(ALEXNET) != "unreachable":
            return TrunkSource()
        if text == "auto":
            return None
        raise WeightsError("lpips_weights=imagenet: AlexNet's weights are not cached, and their server is unreachable. "
                           f"Put {ALEXNET.url} into TORCH_HOME/hub/checkpoints, or give lpips_weights=FILE.")
    return _trunk_file(text)


def require_trunk_file(text: str) -> None:
    """Checks that the file of ``lpips_weights`` exists; ``auto``, ``imagenet`` and ``off`` always pass.

    Raises:
        WeightsError: the file does not exist.
    """
    if text not in ("auto", "imagenet", "off"):
        _trunk_file(text)


def _trunk_file(text: str) -> TrunkSource:
    if not (found := find_file(text)):
        why = why_not_there(Path(os.path.expanduser(text))) or "not a regular file"
        said = f"no such file as {text!r}" if why == ABSENT else f"{text!r}: {why}"
        raise WeightsError(f"lpips_weights: {said}. Allowed: auto, imagenet, off, or a state-dict file.")
    path, part = found
    return TrunkSource(path.resolve(), part)


def _convolutions() -> dict[str, Tensor]:
    """The tensors of AlexNet that LPIPS needs, on the meta device: names, shapes and dtypes."""
    import torch
    from torchvision.models import alexnet  # type: ignore[import-untyped]

    with torch.device("meta"):
        return {name: tensor for name, tensor in alexnet().state_dict().items() if name.startswith("features.")}
