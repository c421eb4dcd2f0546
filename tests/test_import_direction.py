"""The layout that CONTRIBUTING describes: who may import whom. Read from the source, so that late imports count too."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import inversion

ROOT = Path(inversion.__file__).parent

LAYERS = ("leaves", "data", "models", "losses", "config", "training", "tracking", "runs", "reconstruct", "report",
          "sweeps", "api", "cli")
"""The packages of ``inversion``, from the bottom up: each may import those before it. Other modules are leaves."""

ROOMS = {
    "report": ("stats", "data", "tables", "published", "render", "report"),
    "sweeps": ("spec", "queue", "study", "portable", "workers", "sweeps"),
}
"""The same inside a package of packages; its own modules come last."""


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


def layer(module: str) -> str:
    """``inversion.data.cache`` belongs to ``data``, ``inversion.seeds`` to ``leaves``."""
    name = module.removeprefix("inversion").strip(".").partition(".")[0]
    return name if name in LAYERS else "leaves"


def room(module: str) -> str:
    """``inversion.report.stats.bootstrap`` belongs to ``stats``, ``inversion.report.conclusions`` to ``report``."""
    _, package, *rest = module.split(".")
    return rest[0] if rest and rest[0] in ROOMS[package] else package


def ours(module: str) -> set[str]:
    """The modules of ``inversion`` that one of them imports."""
    return {name for name in imports(module) if name.partition(".")[0] == "inversion"}


def test_the_source_is_found() -> None:
    assert {"inversion", "inversion.training.trainer", "inversion.models.decoders.wavelet"} <= set(files())
    assert "inversion.data.batches" in imports("inversion.training.trainer")
    assert "torch" in imports("inversion.seeds")


def upwards(modules: list[str], order: tuple[str, ...], place: Callable[[str], str]) -> list[str]:
    """Imports against an order, as ``importer -> imported``."""
    return [f"{module} -> {name}" for module in modules for name in ours(module) & set(files())
            if name in modules and order.index(place(name)) > order.index(place(module))]


def test_every_folder_is_a_layer() -> None:
    assert {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | {"leaves"} == set(LAYERS)


def test_packages_import_only_what_lies_below_them() -> None:
    assert not upwards([module for module in files() if not module.endswith("__main__")], LAYERS, layer)


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_so_do_the_packages_inside_a_package(package: str) -> None:
    inside = [module for module in files() if module.startswith(f"inversion.{package}.") and "__main__" not in module]
    assert len(inside) > 10
    assert not upwards(inside, ROOMS[package], room)


@pytest.mark.parametrize("package", LAYERS)
def test_the_modules_of_a_package_form_no_circle(package: str) -> None:
    inside = {module for module in files() if layer(module) == package}
    assert list(TopologicalSorter({module: ours(module) & inside - {module} for module in inside}).static_order())


SPEC_PART = {"source", "documents", "grid", "limits", "conditions", "overrides", "search", "search_section", "spec",
             "tuning", "pruning", "dry_run", "refusals"}
"""The modules of ``inversion.sweeps.spec``, that read a spec, which takes well under a second."""


@pytest.mark.parametrize("name", sorted(SPEC_PART))
def test_reading_a_spec_needs_nothing_slow_and_no_queue(name: str) -> None:
    tree = ast.parse((ROOT / "sweeps" / "spec" / f"{name}.py").read_text("utf-8"))
    tops = {top for top in imported_at_once(tree) if top.partition(".")[0] not in sys.stdlib_module_names}
    sweeps = {top for top in tops if top.startswith("inversion.sweeps")}
    assert sweeps <= {f"inversion.sweeps.spec.{module}" for module in SPEC_PART}
    assert {top.partition(".")[0] for top in tops} <= {"inversion", "pydantic", "rich", "yaml"}


def imported_at_once(tree: ast.Module) -> set[str]:
    """What a module imports when it is imported itself: not in functions, and not for types alone."""
    found = {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    return found | {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}


def test_nothing_below_tracking_knows_mlflow() -> None:
    users = {layer(module) for module in files() if any(name.partition(".")[0] == "mlflow" for name in imports(module))}
    assert "tracking" in users
    assert not users & set(LAYERS[:LAYERS.index("tracking")])


def test_nothing_prints() -> None:
    callers = [module for module, path in files().items() for node in ast.walk(ast.parse(path.read_text("utf-8")))
               if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"]
    assert not callers
