"""Checkpoints: state dicts and plain data, written atomically, read without running any code from the file."""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from inversion.errors import InversionError
from inversion.training.fitting import MisfitError, state_of
from inversion.training.state import TrainingState

FORMAT = 1
LAST, BEST = "last.pt", "best.pt"

_logger = logging.getLogger(__name__)


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


def furthest_checkpoint(paths: Sequence[Path], require: Callable[[Path], object] = lambda path: None) -> Path:
    """The one of several ``last.pt`` that has the most steps behind it; what cannot be read is passed over.

    So is what ``require`` raises a CheckpointError for.

    Raises:
        CheckpointError: none can be used.
    """
    positions: dict[tuple[int, int], Path] = {}
    problems = ["there is none"]
    for path in paths:
        try:
            progress = load_state(path)
            require(path)
        except CheckpointError as error:
            problems.append(str(error))
        else:
            positions[progress.epoch, progress.step] = path
    if not positions:
        raise CheckpointError(f"no checkpoint to go on from: {problems[-1]}")
    for problem in problems[1:]:
        _logger.warning("passed over: %s", problem)
    return positions[max(positions)]


def load_state(path: Path) -> TrainingState:
    """Where the run of a ``last.pt`` stands.

    Raises:
        CheckpointError: as ``load_checkpoint``, or it does not say.
    """
    try:
        return state_of(load_checkpoint(path))
    except MisfitError as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> CheckpointError:
    """The error of a checkpoint that is well formed and cannot be gone on from."""
    return CheckpointError(f"the checkpoint {path} is damaged, or was made by another version: {why}")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU.

    Raises:
        CheckpointError: missing, damaged, of another format, or with anything in it but tensors and plain data.
    """
    try:
        _require_whole(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch asks to report unusual pickles to it
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything: KeyError, IndexError, TypeError and others
        raise CheckpointError(f"cannot read the checkpoint {path}: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is no checkpoint: it holds a {type(content).__name__}")
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {content.get('format')}, this version reads {FORMAT}")
    return content


def _require_whole(path: Path) -> None:
    """Raises a BadZipFile if a part of a checkpoint is not what was written: PyTorch does not look at checksums."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if broken := file.testzip():
                raise zipfile.BadZipFile(f"{broken} in it is damaged")


def _reason(error: Exception) -> str:
    """Why a file cannot be read. PyTorch's own advice, to trust the file and run its code, is never passed on."""
    text = str(error).partition("\n")[0]
    if isinstance(error, OSError):
        return text or type(error).__name__
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return f"it holds code or objects other than tensors and plain data ({named[1]}), and was refused"
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in str(error):
        return "it is damaged, or holds code or objects other than tensors and plain data; it was refused"
    return f"it is damaged ({text or type(error).__name__})"
