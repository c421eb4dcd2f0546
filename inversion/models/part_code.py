"""The code in a file of a user's own: what it defines, and its execution, once in a process.

Only content that this process may execute gets here (``part_files``). This module does not import PyTorch.
"""

from __future__ import annotations

import ast
import linecache
import symtable
import sys
import traceback
from importlib.metadata import packages_distributions
from types import ModuleType
from typing import Any

from inversion.errors import RequestError, UnknownNameError
from inversion.models import part_files
from inversion.text import one_line


def full_name(text: str, kind: str) -> str:
    """The full name of a part in a file, which is read and not executed.

    Raises:
        UnknownNameError: the file has no class or function of that name.
        RequestError: the file is missing, is not Python, or its name cannot be used; or a full name stands for a file
            that is not on this machine.
    """
    file, part = _find(text, kind)
    return str(part_files.Reference(file.name, part, file.digest))


def load(name: str, kind: str) -> Any:
    """Executes the file of a full name, once in a process, and returns the class or function.

    Raises:
        RequestError: the file is not at hand, or fails when it is executed; the message has the line.
    """
    file, part = _find(name, kind)
    module_name = f"inversion_part_{file.digest}"
    if module_name not in sys.modules:
        module = ModuleType(module_name)
        module.__file__ = file.origin
        text = file.content.decode()
        linecache.cache[file.origin] = (len(text), None, text.splitlines(keepends=True), file.origin)
        sys.modules[module_name] = module
        try:
            exec(compile(text, file.origin, "exec"), module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise _not_importable(error, file, kind) from error
    found = vars(sys.modules[module_name])
    if part not in found:  # it is defined under a condition
        raise RequestError(f"{file.name} did not define {part!r} when it was executed")
    return found[part]


def summary(name: str, kind: str) -> str:
    """The first line of the docstring of a part's file, which is not executed."""
    file, _ = _find(name, kind)
    return (ast.get_docstring(ast.parse(file.content)) or "").partition("\n")[0]


def packages_of(reference: part_files.Reference) -> set[str]:
    """The installed packages, by their names on PyPI, that the file of a full name imports; this one not."""
    file = part_files.find(reference)
    nodes = list(ast.walk(ast.parse(file.content))) if file else []
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    providers = packages_distributions()
    return {package for module in modules for package in providers.get(module.partition(".")[0], ())} - {"inversion"}


def where_in(file: str, error: BaseException) -> str:
    """Where in a part's file an error was raised, as ``my_decoder.py:12``; the file's name if nowhere."""
    origins = {known.origin for known in part_files.known_files() if known.name == file}
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in origins]
    return f"{file}:{lines[-1]}" if lines else file


def _find(text: str, kind: str) -> tuple[part_files.PartFile, str]:
    """The file of a part, which may be executed from now on, and the part's name in it; raises as ``full_name``."""
    reference = part_files.parse_reference(text, kind)
    file = part_files.find(reference) if reference.digest else part_files.read(reference.path, f"{kind} {text!r}")
    if file is None:
        raise RequestError(f"{kind} {text!r}: no file of that content is on this machine. Give the file, as in "
                           f"{reference.path}:{reference.part}")
    part_files.allow(file)
    _require_name(file, reference.part, kind)
    return file, reference.part


def _not_importable(error: BaseException, file: part_files.PartFile, kind: str) -> RequestError:
    where = where_in(file.name, error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        beside = file.path and file.path.with_name(top)
        if beside and (beside.is_dir() or beside.with_suffix(".py").is_file()):
            a = "An" if kind[0] in "aeiou" else "A"
            return RequestError(f"{where}: {top!r} is imported from the folder of {file.name}. {a} {kind} is one file, "
                                "which is logged with its runs: put what it needs into it, or install a package")
        return RequestError(f"{where}: the module {error.name!r} is not installed here")
    return RequestError(f"{where}: {type(error).__name__}: {one_line(str(error))}")


def _require_name(file: part_files.PartFile, name: str, kind: str) -> None:
    """Raises a RequestError if the file is not Python, or has no class, function or other value of that name."""
    try:
        table = symtable.symtable(file.content.decode(), file.name, "exec")
    except UnicodeDecodeError as error:
        raise RequestError(f"{file.name} is not a text file in UTF-8 (at byte {error.start})") from error
    except SyntaxError as error:
        raise RequestError(f"{file.name}:{error.lineno or 1}: syntax error: {error.msg}") from error
    except ValueError as error:  # null characters
        raise RequestError(f"{file.name}: {error}") from error
    symbols = table.get_symbols()
    if name not in {symbol.get_name() for symbol in symbols if symbol.is_namespace() or symbol.is_assigned()}:
        defined = [symbol.get_name() for symbol in symbols if symbol.is_namespace()]
        if not defined:
            raise RequestError(f"{file.name} has no {kind} {name!r}: it defines no class and no function")
        raise UnknownNameError(f"{file.name} has no {kind}", name, defined)
