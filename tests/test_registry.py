"""Names for parts, and the errors that list them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inversion.errors import InterruptedRunError, InversionError, RequestError, UnknownNameError
from inversion.models.decoders import decoders
from inversion.models.fusion import fusions
from inversion.registry import Registry


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry[type]]:
    """A package ``shapes_of_a_test`` with the parts ``circle`` and ``square`` and a helper module."""
    name = "shapes_of_a_test"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(
        f"from inversion.registry import Registry\nshapes = Registry('shape', '{name}')\n")
    for part in ("circle", "square"):
        (package / f"{part}.py").write_text(
            f'"""A {part}.\n\nMore about it.\n"""\nfrom {name} import shapes\n'
            f"@shapes.register('{part}')\nclass Part:\n    pass\n")
    (package / "_tools.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__(name)
    yield module.shapes
    for key in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[key]


def test_names_and_summaries_are_known_before_any_part_is_imported(shapes: Registry[type]) -> None:
    assert shapes.names() == ["circle", "square"]
    assert shapes.summary("circle") == "A circle."
    shapes.check("square")
    assert not [name for name in sys.modules if name.startswith("shapes_of_a_test.")]


def test_a_part_is_imported_when_it_is_asked_for_and_the_others_are_not(shapes: Registry[type]) -> None:
    assert shapes.get("circle").__module__ == "shapes_of_a_test.circle"
    assert shapes.get("circle") is shapes.get("circle")
    assert "shapes_of_a_test.square" not in sys.modules


def test_an_unknown_name_is_answered_with_the_known_ones_and_the_nearest(shapes: Registry[type]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        shapes.get("sqare")
    assert str(caught.value) == "unknown shape 'sqare'. Known: circle, square. Did you mean 'square'?"
    with pytest.raises(UnknownNameError, match=r"^unknown shape 'xyz'\. Known: circle, square\.$"):
        shapes.check("xyz")


def test_a_name_is_given_once(shapes: Registry[type]) -> None:
    shapes.get("circle")
    with pytest.raises(ValueError, match="shape 'circle' is registered twice"):
        shapes.register("circle")(int)


def test_a_part_lives_in_the_module_of_its_name(shapes: Registry[type]) -> None:
    stray = type("Stray", (), {"__module__": "shapes_of_a_test.square"})
    with pytest.raises(ValueError, match=r"shape 'triangle' must live in shapes_of_a_test\.triangle, not in"):
        shapes.register("triangle")(stray)


def test_parts_of_somebody_elses_package_can_be_registered(shapes: Registry[type]) -> None:
    other = type("Other", (), {"__module__": "elsewhere", "__doc__": "Not ours.\n\nMore."})
    shapes.register("hexagon")(other)
    assert shapes.names() == ["circle", "hexagon", "square"]
    assert shapes.get("hexagon") is other
    assert shapes.summary("hexagon") == "Not ours."


@pytest.mark.parametrize(("registry", "known"), [
    (decoders, ["attention", "frequency_aware", "linear", "residual", "transposed_conv", "wavelet"]),
    (fusions, ["attention", "concat", "weighted"]),
])
def test_the_studys_parts_are_there_each_named_as_its_module(registry: Registry[type], known: list[str]) -> None:
    assert registry.names() == known
    for name in known:
        assert registry.get(name).__module__ == f"{registry.package}.{name}"
        summary = registry.summary(name)
        assert summary.endswith(".")
        assert 20 < len(summary) < 120


def test_errors_say_by_their_type_what_the_process_exits_with_and_what_failed() -> None:
    assert (InversionError.exit_code, RequestError.exit_code, InterruptedRunError.exit_code) == (1, 2, 130)

    def below(kind: type[InversionError]) -> list[type[InversionError]]:
        return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]

    kinds = [kind.kind for kind in below(InversionError) if "kind" in vars(kind)]
    assert len(set(kinds)) == len(kinds) >= 7
