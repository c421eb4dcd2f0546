"""Safe loading of PyTorch's pickle files, without running any code in them.

``torch.load(weights_only=True)`` refuses a file that holds a NumPy scalar or parsed arguments beside its tensors. Such
plain data is replaced by empty placeholders; other objects that are not PyTorch's own are refused.
"""

from __future__ import annotations

import pickle
import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from inversion.models.encoders.file_content import Format

_PLAIN = (
    "argparse.Namespace", "types.SimpleNamespace", "pathlib.Path", "pathlib.PosixPath", "pathlib.PurePosixPath",
    "pathlib.WindowsPath", "pathlib._local.PosixPath", "pathlib._local.WindowsPath", "datetime.datetime",
    "datetime.date", "datetime.timedelta", "numpy.dtype", "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)
"""Plain data that training scripts save beside the tensors."""

_PROGRAMS = frozenset({
    "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "ctypes", "code",
    "pty", "pickle", "marshal", "webbrowser", "urllib", "urllib2", "requests", "asyncio", "multiprocessing", "operator",
    "timeit", "io",
})
"""Modules whose functions are used in attacks and never in checkpoints."""

_FUNCTIONS = frozenset({"eval", "exec", "getattr", "setattr", "open", "compile", "__import__", "input", "breakpoint"})
"""The same for functions in ``builtins``; its classes are harmless."""

_CONVERSION = (
    "import sys, torch; old, new = sys.argv[1:]; "
    "tensors = lambda x: x.state_dict() if isinstance(x, torch.nn.Module) else x if torch.is_tensor(x) else "
    "torch.from_numpy(x.copy()) if type(x).__name__ == 'ndarray' and x.dtype.kind == 'f' else "
    "{name: tensors(y) for name, y in x.items()} if hasattr(x, 'items') else None; "
    "torch.save(tensors(torch.load(old, map_location='cpu', weights_only=False)), new)")
"""A program of one line that keeps the tensors of a file in the same nested dicts, those of modules and NumPy's too."""


class RefusedObjectsError(Exception):
    """The file holds Python objects other than tensors; ``names`` lists their types."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class Ignored:
    """Placeholder for an object that is not loaded: accepts any arguments and state, and stores nothing."""

    def __new__(cls, *_: object, **__: object) -> Ignored:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _stand_in(name: str) -> type[Ignored]:
    module, _, qualified = name.rpartition(".")
    return type(qualified, (Ignored,), {"__module__": module})


_STAND_INS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [_stand_in(name) for name in _PLAIN]


def read_pickle(path: Path, file_format: Format) -> Any:
    """Loads a file of ``torch.save`` on the CPU; files in the zip format are memory-mapped.

    Raises:
        RefusedObjectsError: it holds objects other than tensors and plain data.
        Exception: any other error, for a damaged file.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_STAND_INS):
            warnings.simplefilter("ignore")  # of pickle protocols and sparse tensors: both lead to our own errors
            if path.suffix == ".safetensors":  # torch.load would trust the extension, which is wrong here
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            # A cut needs a small part of a large file. The old format cannot be memory-mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=file_format == "zip")
    except pickle.UnpicklingError as error:
        if names := _refused(path, file_format, str(error)):
            raise RefusedObjectsError(names) from None
        raise


def looks_hostile(names: list[str]) -> bool:
    """Whether unpickling would call functions that no checkpoint needs."""
    return any(name.partition(".")[0] in _PROGRAMS or name.removeprefix("builtins.") in _FUNCTIONS
               or name.startswith(("torch.hub.", "torch.serialization.")) for name in names)


def converting_line(path: Path) -> str:
    """A shell command that converts a trusted file to one with nothing but tensors."""
    new = path.with_name(f"{path.name.partition('.')[0]}-tensors.pth")
    return f'python -c "{_CONVERSION}" {shlex.quote(str(path))} {shlex.quote(str(new))}'


def _refused(path: Path, file_format: Format, message: str) -> list[str]:
    """The names of refused objects: all of them if PyTorch can list them, else the first."""
    if file_format == "zip":
        try:
            with torch.serialization.safe_globals(_STAND_INS):
                names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        except Exception:  # a damaged pickle
            return []
    else:
        names = re.findall(r"GLOBAL (\S+) (?:was not|whose module)", message)[:1]
    return sorted(re.sub(r"^commands\.", "subprocess.", name) for name in names)  # protocol 2 uses Python 2's names
