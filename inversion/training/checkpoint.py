"""Checkpoints: state dicts and plain data, written atomically, read without running any code from the file."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from inversion.errors import InversionError

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"


class CheckpointError(InversionError):
    """A checkpoint that cannot be written or read."""

    kind = "checkpoint"


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes ``content`` (tensors and plain data) so that the file is either the old one or all of the new one.

    Raises:
        CheckpointError: the folder is read-only or full; an earlier file at ``path`` is intact.
    """
    serialised = io.BytesIO()  # in memory first: written by torch, a full disk is a RuntimeError that need not say so
    torch.save({"format": FORMAT, **content}, serialised)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(serialised.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error


def furthest_checkpoint(paths: Sequence[Path]) -> Path:
    """The one of several ``last.pt`` that has the most steps behind it; what cannot be read is passed over.

    Raises:
        CheckpointError: none can be read.
    """
    positions: dict[tuple[int, int], Path] = {}
    problems = ["there is none"]
    for path in paths:
        try:
            progress = load_checkpoint(path)["progress"]
        except CheckpointError as error:
            problems.append(str(error))
        else:
            positions[progress["epoch"], progress["step"]] = path
    if not positions:
        raise CheckpointError(f"no checkpoint to go on from: {problems[-1]}")
    return positions[max(positions)]


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: missing, damaged, of another format, or with anything in it but tensors and plain data.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything: KeyError, IndexError, TypeError and others
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"cannot read the checkpoint {path}: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {content.get('format')}, this version reads {FORMAT}")
    return content
