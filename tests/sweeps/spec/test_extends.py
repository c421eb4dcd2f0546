"""``extends``: a spec that says only what differs from another one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from inversion.errors import SeveralErrors
from inversion.sweeps.spec.source import ErrorCollector, Items, Scalar, Section, Value, as_yaml, read_yaml
from inversion.sweeps.spec.spec import Spec, load_spec

PARENT = """# the parent
study: parent
base: {epochs: 7, lr: 1e-3}
grid:
- encoder: ["vgg16:block1..3"]
  decoder: [wavelet, attention]
exclude: [{encoder: "vgg16:block2", decoder: wavelet}]
tune: {mse_weight: [0.5, 1]}
"""
ITEMS = "grid: [{decoder: [wavelet, attention]}]"


def write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def load(text: str, sets: tuple[str, ...] = ()) -> Spec:
    write("s.yaml", text)
    return load_spec("s.yaml", sets)


def wrong(text: str) -> list[str]:
    with pytest.raises(SeveralErrors) as caught:
        load(text)
    return caught.value.lines


@pytest.fixture(autouse=True)
def parent(here: None) -> None:
    write("parent.yaml", PARENT)


# what is inherited

def test_the_base_is_merged_and_everything_else_is_inherited() -> None:
    spec = load("study: child\nextends: parent.yaml\nbase: {lr: 2e-3, batch_size: 2}")
    assert spec.study == "child"
    assert spec.base == {"strict": "true", "epochs": "7", "lr": "2e-3", "batch_size": "2"}
    assert spec.tuned == ("mse_weight",)
    assert len(spec.configurations) == 10
    assert spec.configurations[0].where == "parent.yaml:5, block 1"


def test_a_section_of_the_child_replaces_the_inherited_one() -> None:
    spec = load(f"study: child\nextends: parent.yaml\n{ITEMS}\ntune: {{lpips_weight: [1, 2]}}\nbase: {{}}")
    assert spec.tuned == ("lpips_weight",)
    assert [each.where for each in spec.configurations] == ["s.yaml:3, block 1"] * 4  # without the parent's exclude
    assert len(load("study: child\nextends: parent.yaml\nexclude: [{decoder: wavelet}]").configurations) == 6


def test_an_empty_section_removes_the_inherited_one() -> None:
    assert load("study: child\nextends: parent.yaml\ntune:\n").tuned == ()
    assert len(load("study: child\nextends: parent.yaml\ntune: ~\nexclude: ~").configurations) == 6


def test_a_search_replaces_a_grid_with_all_that_belongs_to_it() -> None:
    spec = load("study: child\nextends: parent.yaml\nsearch: {trials: 3, space: {decoder: [wavelet, attention]}}")
    assert spec.search is not None
    assert (spec.configurations, spec.tuned, spec.base["epochs"]) == ((), (), "7")
    write("search.yaml", "study: p\nsearch: {trials: 3, space: {decoder: [wavelet, attention]}}")
    assert load(f"study: child\nextends: search.yaml\n{ITEMS}").search is None


def test_shipped_files_can_be_extended_and_those_beside_the_file_go_first() -> None:
    assert len(load("study: child\nextends: grid\nbase: {epochs: 3}").configurations) == 44
    write("grid.yaml", "grid: [{seed: [1, 2, 3]}]")
    assert len(load("study: child\nextends: grid.yaml").configurations) == 3


def test_paths_begin_beside_the_file_that_names_them(tmp_path: Path) -> None:
    write("one/two/base.yaml", "base: {epochs: 3}")
    write("one/mid.yaml", "extends: two/base.yaml\nbase: {lr: 1e-2}")
    write("one/s.yaml", f"study: s\nextends: mid.yaml\n{ITEMS}")
    spec = load_spec("one/s.yaml")
    assert spec.base == {"strict": "true", "epochs": "3", "lr": "1e-2"}
    assert spec.extended == (Path("one/mid.yaml"), Path("one/two/base.yaml"))
    assert load(f"study: s\nextends: {tmp_path}/one/mid.yaml\n{ITEMS}").base == spec.base


def test_options_of_the_command_apply_to_what_was_joined() -> None:
    spec = load("study: child\nextends: parent.yaml\ntune: ~", sets=("lr=5", "seed=[1, 2]"))
    assert {config.lr for config in spec.configs} == {5}
    assert len(spec.configs) == 10


# what is logged

def test_the_text_of_the_spec_needs_no_other_file(tmp_path: Path) -> None:
    text = "study: child\nextends: parent.yaml\nbase: {weights: 'off', lr: 1}\nexclude: [{decoder: wavelet}]"
    spec = load(text)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "s.yaml"
    moved.write_text(spec.text, "utf-8")
    for file in ("parent.yaml", "s.yaml"):
        Path(file).unlink()
    again = load_spec(str(moved))
    assert (again.study, again.base, again.configs, again.tuned) == (spec.study, spec.base, spec.configs, spec.tuned)
    assert "extends" not in yaml.safe_load(spec.text)
    assert load(PARENT).text == PARENT  # a file that extends none is logged as written


@pytest.mark.parametrize("name", ["grid", "smoke", "published", "tuned", "search", "resolution"])
def test_a_shipped_file_that_is_extended_is_written_out_with_the_same_runs(name: str) -> None:
    spec = load(f"study: mine\nextends: {name}.yaml")
    write("s.yaml", spec.text)
    again, original = load_spec("s.yaml"), load_spec(name)
    assert (again.configs, again.search, again.base) == (original.configs, original.search, original.base)


def without_places(value: Value | None) -> object:
    if isinstance(value, Scalar):
        return value.text
    if isinstance(value, Items):
        return [without_places(item) for item in value.values]
    assert isinstance(value, Section)
    return {name: without_places(entry) for name, entry in value.entries.items()}


@pytest.mark.parametrize("text", [
    "a: off\nb: [no, 1e-4, 0x10, 2:30, 2024-01-01, '', ~, 'null', '~', '=', ' x ', 'a: b', '# c', '@', \"\\t\", ü]",
    "a:\n  b: {c: [[1, 2], {d: e}], f: []}\n  g: {}\n'1': \"two\\nlines\"", "a: 'vgg16=a.pth,resnet34=b.pth'",
    f"a: {'x' * 300}\nb: [{', '.join(['word'] * 100)}]",
])
def test_what_is_written_is_read_again_as_it_was(text: str) -> None:
    first = read_yaml(text, str, ErrorCollector())
    assert first is not None
    assert without_places(read_yaml(as_yaml(first), str, ErrorCollector())) == without_places(first)


# what is wrong

@pytest.mark.parametrize(("text", "lines"), [
    ("study: s\nextends: parnet.yaml", ["s.yaml:2: no spec file 'parnet.yaml'. Known: "]),
    ("study: s\nextends: gird.yaml", ["s.yaml:2: no spec file 'gird.yaml'. Known: *Did you mean 'grid.yaml'?"]),
    ("study: s\nextends: .", ["s.yaml:2: '.' is a folder, not a spec file."]),
    ("study: s\nextends: [a, b]", ["s.yaml:2: extends: expected a single value, got a list"]),
    ("study: s\nextends:", ["s.yaml:2: extends: expected a single value, got nothing"]),
    ("extends: parent.yaml", ["s.yaml:1: a spec needs a study: *, which is not inherited"]),
    ("study: s\nextends: broken.yaml", ["broken.yaml:2: not YAML"]),
    ("study: s\nextends: wrong.yaml\nbase: {epochs: y}",
     ["wrong.yaml:2: a spec has no 'gird'*Did you mean 'grid'?", "wrong.yaml:1: lr: 'x' is not allowed",
      "s.yaml:3: epochs: 'y' is not allowed", "wrong.yaml:3, block 1: unknown decoder 'wavlet'"]),
    ("study: s\nextends: base.yaml", ["s.yaml:1: a spec needs a grid or a search"]),
    ("study: s\nextends: latin.yaml", ["s.yaml:2: latin.yaml is not a text file in UTF-8"]),
    ("study: s\nextends: s.yaml", ["s.yaml:2: extends is a circle: s.yaml → s.yaml"]),
    ("study: s\nextends: a.yaml", ["b.yaml:1: extends is a circle: a.yaml → b.yaml → a.yaml"]),
    ("study: s\nextends: parent.yaml\nbase: {decoder: linear}",
     ["s.yaml:3: decoder in base has no effect: the inherited grid has its own, at parent.yaml:5, block 1."]),
    ("study: s\nextends: between.yaml",
     ["between.yaml:2: decoder in base has no effect: the inherited grid has its own, at parent.yaml:5, block 1."]),
    ("study: s\nextends: parent.yaml\nbase: {mse_weight: 1}",
     ["parent.yaml:8: mse_weight has one value already, at s.yaml:3: a parameter is in base or in tune"]),
    ("study: s\nextends: parent.yaml\nbase: [a]", ["s.yaml:3: base is a mapping"]),
    ("study: s\nextends: listed.yaml\nbase: {lr: 1}", ["listed.yaml:1: base is a mapping"]),
])
def test_what_is_wrong_is_reported_with_its_file_and_line(text: str, lines: list[str]) -> None:
    write("broken.yaml", "a: 1\n- b")
    write("wrong.yaml", "base: {lr: x}\ngird: 1\ngrid: [{decoder: wavlet}]")
    write("base.yaml", "base: {lr: 1}")
    write("listed.yaml", "base: [a]\ngrid: [{seed: 1}]")
    Path("latin.yaml").write_bytes("study: ä".encode("latin-1"))
    write("a.yaml", "extends: b.yaml")
    write("b.yaml", "extends: ./a.yaml")
    write("between.yaml", "extends: parent.yaml\nbase: {decoder: linear}")
    found = wrong(text)
    assert len(found) == len(lines), found
    for line, expected in zip(found, lines, strict=True):
        beginning, _, rest = expected.partition("*")
        assert line.startswith(beginning)
        assert rest in line


def test_a_copy_under_a_shipped_name_is_told_why_it_does_not_find_the_shipped_one() -> None:
    write("grid.yaml", "study: s\nextends: grid.yaml")
    with pytest.raises(SeveralErrors, match=r"^grid\.yaml:2: extends is a circle: grid\.yaml → grid\.yaml\. To extend "
                                            r"the grid\.yaml that comes with inversion, give this file another name$"):
        load_spec("grid.yaml")


def test_a_parameter_that_some_blocks_do_not_set_can_be_set_in_base() -> None:
    write("parent.yaml", "grid: [{seed: [1, 2]}, {decoder: wavelet}]")
    assert [config.seed for config in load("study: s\nextends: parent.yaml\nbase: {seed: 3}").configs] == [1, 2, 3]


def test_a_link_to_a_file_is_that_file() -> None:
    write("s.yaml", "study: s\nextends: link.yaml")
    Path("link.yaml").symlink_to("s.yaml")
    with pytest.raises(SeveralErrors, match=r"^s\.yaml:2: extends is a circle"):
        load_spec("s.yaml")
    shutil.copy("parent.yaml", "copy.yaml")
    assert load("study: s\nextends: copy.yaml").extended == (Path("copy.yaml"),)
