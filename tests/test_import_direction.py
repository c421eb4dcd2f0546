"""The layout of DESIGN: who may import whom. Read from the source, so that late imports count too."""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import inversion

ROOT = Path(inversion.__file__).parent
SWEEPS = ROOT.parent / "sweeps"

LEAVES = {"inversion", "errors", "registry", "images", "config", "cores", "decibels", "download", "features", "retry",
          "seeds", "text"}
PARTS = {"encoders", "decoders", "fusion", "losses", "metrics", "data"}
KNOWN: dict[str, set[str]] = {
    **dict.fromkeys(LEAVES, LEAVES),
    **{part: LEAVES | {part} for part in PARTS},
    "perceptual_weights": LEAVES | PARTS,
    "model": LEAVES | PARTS,
    "packing": LEAVES | PARTS | {"model"},
    "training": LEAVES | PARTS | {"model", "training"},
}
"""What each unit (a module or package of ``inversion``) may know; units that are not here put the others together."""


@cache
def files() -> dict[str, Path]:
    """Every module by its dotted name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = ("inversion", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that a module imports anywhere in its source, as dotted names."""
    path = files()[module]
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test does not follow"
            base = node.module or ""
            names |= {full if (full := f"{base}.{alias.name}") in files() else base for alias in node.names}
    return frozenset(names)


def unit(module: str) -> str:
    """``inversion.data.cache`` belongs to ``data``; the package's own ``__init__`` is ``inversion``."""
    return module.removeprefix("inversion.").partition(".")[0]


def units_known_by(name: str) -> dict[str, set[str]]:
    """Units of ``inversion`` that a unit imports, each with the modules that do."""
    known: dict[str, set[str]] = {}
    for module in files():
        if unit(module) == name:
            for imported in imports(module):
                if imported.partition(".")[0] == "inversion":
                    known.setdefault(unit(imported), set()).add(module)
    return known


def test_the_source_is_found() -> None:
    assert {"inversion", "inversion.training.trainer", "inversion.models.decoders.wavelet"} <= set(files())
    assert "inversion.data.batches" in imports("inversion.training.trainer")
    assert "torch" in imports("inversion.seeds")


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_unit_knows_only_what_lies_below_it(name: str) -> None:
    offenders = {other: who for other, who in units_known_by(name).items() if other not in KNOWN[name]}
    assert not offenders


def test_only_the_command_line_knows_the_command_line() -> None:
    users = {module for module in files() if any(unit(name) == "cli" for name in imports(module)
                                                 if name.startswith("inversion."))}
    assert {unit(module) for module in users} <= {"cli", "__main__"}


def test_the_units_form_no_circle() -> None:
    graph = {name: set(units_known_by(name)) - {name} for name in {unit(module) for module in files()}}
    assert list(TopologicalSorter(graph).static_order())


def test_inversion_never_knows_sweeps() -> None:
    assert not {module for module in files() if any(name.partition(".")[0] == "sweeps" for name in imports(module))}


SPEC_PART = {"spec", "dry_run", "yaml_marks", "problems", "sections", "values", "grid", "choose", "search",
             "search_section", "space", "engines", "inputs"}
"""The modules of ``sweeps`` that read a spec, which takes well under a second."""


@pytest.mark.parametrize("name", sorted(SPEC_PART))
def test_reading_a_spec_needs_nothing_slow_and_no_queue(name: str) -> None:
    tree = ast.parse((SWEEPS / f"{name}.py").read_text("utf-8"))
    tops = {top for top in imported_at_once(tree) if top.partition(".")[0] not in sys.stdlib_module_names}
    ours = {top for top in tops if top.partition(".")[0] == "sweeps"}
    assert ours <= {f"sweeps.{module}" for module in SPEC_PART}
    assert {top.partition(".")[0] for top in tops - ours} <= {"inversion", "pydantic", "rich", "yaml"}


def imported_at_once(tree: ast.Module) -> set[str]:
    """What a module imports when it is imported itself: not in functions, and not for types alone."""
    found = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}


def test_only_tracking_knows_mlflow() -> None:
    users = {module for module in files() if any(name.partition(".")[0] == "mlflow" for name in imports(module))}
    assert users
    assert {unit(module) for module in users} == {"tracking"}


def test_nothing_prints() -> None:
    callers = [module for module, path in files().items() for node in ast.walk(ast.parse(path.read_text("utf-8")))
               if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not callers
