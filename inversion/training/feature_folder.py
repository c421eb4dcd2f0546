"""Features of fixed crops, computed once and kept on disk: the encoder is frozen, so they never change.

They are shared by all runs on the same photographs through the same encoder: other decoders, seeds, learning rates. The
maps of an encoder, or of LPIPS, are in a subfolder: files ``0.bf16``, ``1.bf16`` …, each bfloat16 ``(crops, h, w, C)``
without a header, and ``entry.json``, which is written last and makes them valid.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inversion.errors import InversionError
from inversion.files import alone_in, replacing
from inversion.progress import Progress

FORMAT_VERSION = 1
ENTRY_FILE = "entry.json"
WHAT = "computing features of fixed crops"
RESERVE_BYTES = 2**30
"""Left free on the disk for checkpoints and artifacts."""

Compute = Callable[[Sequence[int]], list[Tensor]]
"""The maps ``(B, C, h, w)`` of crops by their numbers."""

_logger = logging.getLogger(__name__)


class NoRoomError(InversionError):
    """The disk has no room for the features."""

    kind = "disk"


@dataclass(frozen=True)
class FixedFeatures:
    """The maps of all fixed crops, each bfloat16 ``(crops, h, w, C)`` and mapped from its file."""

    maps: Sequence[Tensor]

    def of(self, numbers: Sequence[int], device: torch.device, dtype: torch.dtype) -> list[Tensor]:
        """The maps ``(B, C, h, w)`` of crops by their numbers."""
        rows = torch.tensor(numbers)
        return [stored[rows].to(device).to(dtype).permute(0, 3, 1, 2) for stored in self.maps]


@dataclass(frozen=True)
class FeatureFolder:
    """The folder of stored features on this machine.

    Attributes:
        path: the folder.
        identity: what all features of a run depend on: photographs, size, crops, precision.
        encoders: what those of each encoder depend on besides: cut and weights. None for one with random noise, whose
            features change from step to step.
        lpips: the same for LPIPS's features of the targets; None if there are none.
    """

    path: Path
    identity: Mapping[str, Any]
    encoders: Sequence[Mapping[str, Any] | None]
    lpips: Mapping[str, Any] | None

    def load(self, part: Mapping[str, Any], crops: int, compute: Compute, batch_size: int, progress: Progress
             ) -> FixedFeatures:
        """The stored maps of an encoder or of LPIPS; computed first if they are not there.

        If several processes need them, one computes and the others wait.

        Args:
            part: an item of ``encoders``, or ``lpips``.
            crops: their number.
            compute: computes the maps of some crops.
            batch_size: for how many crops at a time.
            progress: called with the number of crops done. It may raise.

        Raises:
            NoRoomError: the disk is full.
        """
        content = {"format": FORMAT_VERSION, **self.identity, **part, "count": crops}
        entry = self.path / hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        if (found := _open(entry)) is not None:
            return found
        try:
            with alone_in(entry, while_waiting=lambda: progress(f"{WHAT} (by another process)", 0, crops)):
                if (found := _open(entry)) is None:
                    _write(entry, content, crops, compute, batch_size, progress)
                    found = _open(entry)
        except OSError as error:
            raise NoRoomError(f"features of fixed crops cannot be written in {self.path} ({error.strerror or error}): "
                              "make room there, choose another folder with data_dir=FOLDER, or train with "
                              "crops=random.") from error
        if found is None:
            raise NoRoomError(f"features of fixed crops are no longer in {self.path}: another process removed them to "
                              "make room.")
        return found


def _open(entry: Path) -> FixedFeatures | None:
    """The maps of an entry; None if there is none, or if it is damaged."""
    try:
        shapes = json.loads((entry / ENTRY_FILE).read_text())["shapes"]
        maps = [_map(_file(entry, index), shape) for index, shape in enumerate(shapes)]
        with contextlib.suppress(PermissionError):  # of a folder that others fill
            os.utime(entry / ENTRY_FILE)  # used now: of the entries, the one unused for longest is removed first
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:
        _logger.warning("%s cannot be used (%s): computing the features again", entry, error)
        return None
    return FixedFeatures(maps)


def _map(path: Path, shape: Sequence[int]) -> Tensor:
    size = math.prod(shape)
    if path.stat().st_size != 2 * size:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes and not {2 * size}")
    return torch.from_file(str(path), shared=False, size=size, dtype=torch.bfloat16).view(*shape)


def _write(entry: Path, content: Mapping[str, Any], crops: int, compute: Compute, batch_size: int, progress: Progress
           ) -> None:
    shapes: list[list[int]] = []
    with contextlib.ExitStack() as stack:
        files: list[Any] = []
        for first in range(0, crops, batch_size):
            numbers = range(first, min(first + batch_size, crops))
            maps = [values.permute(0, 2, 3, 1).to("cpu", torch.bfloat16).contiguous() for values in compute(numbers)]
            if not files:
                shapes = [[crops, *values.shape[1:]] for values in maps]
                _make_room(entry.parent, 2 * sum(map(math.prod, shapes)))
                files = [stack.enter_context(open(stack.enter_context(replacing(_file(entry, index))), "wb"))
                         for index in range(len(maps))]
            for file, values in zip(files, maps, strict=True):
                file.write(values.view(torch.int16).numpy().data)
            progress(WHAT, numbers[-1] + 1, crops)
    with replacing(entry / ENTRY_FILE) as temporary:
        temporary.write_text(json.dumps({**content, "shapes": shapes}))


def _make_room(folder: Path, needed: int) -> None:
    """Removes entries, that unused for longest first, until so many bytes are free besides the reserve.

    Raises:
        OSError: there is no room even without all of them.
    """
    for file in sorted(folder.glob(f"*/{ENTRY_FILE}"), key=lambda path: path.stat().st_mtime):
        if shutil.disk_usage(folder).free >= needed + RESERVE_BYTES:
            return
        _logger.info("removing stored features %s to make room", file.parent)
        shutil.rmtree(file.parent, ignore_errors=True)  # a process that has mapped a file keeps its content
    free = shutil.disk_usage(folder).free
    if free < needed + RESERVE_BYTES:
        raise OSError(f"{needed / 1e9:.1f} GB are needed, and {free / 1e9:.1f} GB are free")


def _file(entry: Path, index: int) -> Path:
    return entry / f"{index}.bf16"
