"""Where LPIPS gets its AlexNet trunk from: the parameter ``lpips_weights``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inversion.data.files import file_sha256
from inversion.encoders.imagenet import Location, cached_file, location_status
from inversion.errors import WeightsError

if TYPE_CHECKING:
    from inversion.losses import LPIPS

ALEXNET = Location(url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth")
"""torchvision's ``AlexNet_Weights.IMAGENET1K_V1``, which the ``lpips`` package is calibrated for."""


@dataclass(frozen=True)
class TrunkSource:
    """``imagenet`` (torchvision's own file and cache) where ``path`` is None, else a state-dict file."""

    path: Path | None = None

    def __str__(self) -> str:
        return str(self.path) if self.path else "imagenet"

    def identity(self) -> str:
        """The same if and only if the weights are."""
        return f"sha256:{file_sha256(self.path)}" if self.path else ALEXNET.url.rpartition("/")[2]

    def load(self) -> LPIPS:
        """The metric with this trunk; downloads ImageNet's weights if they are not cached.

        Raises:
            WeightsError: the file is no AlexNet state dict.
        """
        from inversion.encoders.state_dict import read_state_dict
        from inversion.losses import LPIPS

        if self.path is not None:
            return LPIPS(dict(read_state_dict(self.path)), str(self.path))
        from torchvision.models import AlexNet_Weights  # type: ignore[import-untyped]

        return LPIPS(AlexNet_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True), "imagenet")


def find_trunk(text: str) -> TrunkSource | None:
    """The trunk that ``lpips_weights`` asks for; None for ``off``, and for ``auto`` where it is plainly out of reach.

    Raises:
        WeightsError: no such file, or ``imagenet`` is neither cached nor reachable.
    """
    if text == "off":
        return None
    if text in ("auto", "imagenet"):
        if cached_file(ALEXNET) or location_status(ALEXNET) != "unreachable":
            return TrunkSource()
        if text == "auto":
            return None
        raise WeightsError("lpips_weights=imagenet: AlexNet's weights are not cached, and their server is out of "
                           f"reach. Put {ALEXNET.url} into TORCH_HOME/hub/checkpoints, or give lpips_weights=FILE.")
    return _trunk_file(text)


def require_trunk_file(text: str) -> None:
    """Looks whether the file that ``lpips_weights`` asks for is there; asks no server for ``auto`` and ``imagenet``.

    Raises:
        WeightsError: no such file.
    """
    if text not in ("auto", "imagenet", "off"):
        _trunk_file(text)


def _trunk_file(text: str) -> TrunkSource:
    path = Path(text).expanduser()
    if not path.is_file():
        raise WeightsError(f"lpips_weights: no such file as {text!r}. "
                           "Allowed: auto, imagenet, off, or a state-dict file.")
    return TrunkSource(path.resolve())
