"""What is installed: every import is declared, and every file that is declared is there."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
OURS = [path for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists() and path.name != "tests"
        and path.name != "benchmarks"]


def normal(name: str) -> str:
    """A distribution's name as PyPI compares it (PEP 503), without version and extras."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", name, maxsplit=1)[0]).lower()


def imported() -> Iterator[str]:
    """Top-level names of all imports, also of those inside functions."""
    for package in OURS:
        for file in package.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    yield from (alias.name.partition(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                    yield node.module.partition(".")[0]


def test_every_import_of_the_package_is_declared() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    declared = {normal(each) for each in project["dependencies"]}
    declared |= {normal(each) for extra in extras for each in extras[extra] if extra != "dev"}
    known = packages_distributions()
    foreign = set(imported()) - set(sys.stdlib_module_names) - {package.name for package in OURS}
    undeclared = {name for name in foreign if not declared & {normal(each) for each in known.get(name, [name])}}
    assert {"torch", "yaml", "pandas", "huggingface_hub"} <= foreign
    assert undeclared == set()


@pytest.mark.parametrize("folder", PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
def test_every_declared_folder_is_there(folder: str) -> None:
    assert list((ROOT / folder).glob("*.yaml"))
