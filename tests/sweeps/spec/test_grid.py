"""Grids: which runs a spec file asks for, and one line with its position for everything that is wrong."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest

from inversion.errors import SeveralErrors
from inversion.models.encoders.catalog import ENCODERS, ENSEMBLE
from inversion.sweeps.spec import grid
from inversion.sweeps.spec.spec import Spec, load_spec

STUDY = "study: s\n"
KEYS = "study, extends, base, grid, exclude, tune, pruner, search, limits, tags, comment"


def load(text: str, study: str | None = None) -> Spec:
    Path("s.yaml").write_text(text, "utf-8")
    return load_spec("s.yaml", study=study)


def wrong(text: str, study: str | None = None) -> list[str]:
    """The lines that a wrong spec gives; each is one line."""
    with pytest.raises(SeveralErrors) as caught:
        load(text, study)
    assert caught.value.exit_code == 2
    assert str(caught.value) == "\n".join(caught.value.lines)
    assert not any("\n" in line for line in caught.value.lines)
    return caught.value.lines


# what a grid asks for

def test_a_block_is_a_product_whose_last_axis_changes_fastest() -> None:
    spec = load(STUDY + "grid:\n- {encoder: [vgg16, resnet34:layer2], decoder: [wavelet, attention], seed: [0, 1]}")
    assert [(each.config.encoder, each.config.decoder, each.config.seed) for each in spec.configurations] == \
        list(itertools.product(["vgg16:block1", "resnet34:layer2"], ["wavelet", "attention"], [0, 1]))


@pytest.mark.parametrize("case", range(20))
def test_the_runs_are_as_many_as_the_products_whatever_the_order_of_axes_and_blocks(case: int) -> None:
    chance = random.Random(case)
    blocks = []
    for number in range(chance.randint(1, 3)):
        axes = [("seed", [str(100 * number + value) for value in range(chance.randint(1, 4))]),
                ("lr", ["1e-3", "2e-3", "3e-3"][:chance.randint(1, 3)]),
                ("decoder", ["wavelet", "attention"][:chance.randint(1, 2)])]
        blocks.append(axes[:chance.randint(1, 3)])
    count = sum(math.prod(len(values) for _, values in axes) for axes in blocks)
    found = []
    for _ in range(2):
        text = "".join("- {" + ", ".join(f"{name}: [{', '.join(values)}]" for name, values in axes) + "}\n"
                       for axes in blocks)
        found.append({each.config for each in load(f"{STUDY}grid:\n{text}").configurations})
        for axes in blocks:
            chance.shuffle(axes)
        chance.shuffle(blocks)
    assert len(found[0]) == count
    assert found[0] == found[1]


def test_a_run_knows_the_line_and_the_number_of_its_block() -> None:
    spec = load("# comment\nstudy: s\ngrid:\n- decoder: wavelet\n-\n  decoder:\n  - attention\n")
    assert [each.where for each in spec.configurations] == ["s.yaml:4, block 1", "s.yaml:6, block 2"]


def test_values_of_a_block_override_the_base_and_both_override_the_defaults() -> None:
    one, two = load(STUDY + "base: {epochs: 7, lr: 1e-3}\ngrid: [{epochs: 8}, {decoder: wavelet}]").configurations
    assert (one.config.epochs, one.config.lr, one.config.patience) == (8, 1e-3, 15)
    assert (two.config.epochs, two.config.lr, two.config.decoder) == (7, 1e-3, "wavelet")


def test_sweeps_are_strict_unless_they_say_otherwise() -> None:
    assert load(STUDY + "grid: [{seed: 1}]").configurations[0].config.strict is True
    assert load(STUDY + "grid: [{seed: 1}]").base == {"strict": "true"}
    assert load(STUDY + "base: {strict: off}\ngrid: [{seed: 1}]").configurations[0].config.strict is False
    assert load(STUDY + "grid: [{seed: 1, strict: no}]").configurations[0].config.strict is False


@pytest.mark.parametrize(("written", "name", "value"), [
    ("off", "lpips_weights", "off"), ("no", "data", "no"), ("1e-4", "lr", 1e-4), ("2:30", "data", "2:30"),
    ("0x10", "data", "0x10"), ("2024-01-01", "data", "2024-01-01"), ("'007'", "data", "007"), ("=", "data", "="),
    ("yes", "strict", True), ("1", "strict", True), ("'null'", "data", "null"), ("!!str 5", "data", "5"),
    ("'vgg16=a.pth,resnet34=b.pth'", "weights", "vgg16=a.pth,resnet34=b.pth"),
])
def test_a_value_arrives_as_it_is_written(written: str, name: str, value: object) -> None:
    for text in (f"base:\n  {name}: {written}\ngrid: [{{seed: 1}}]", f"grid:\n- {name}: {written}",
                 f"grid:\n- {name}: [{written}]", f"grid:\n- {name}:\n  - {written}"):
        run, = load(STUDY + text).configurations
        assert getattr(run.config, name) == value


def test_options_with_commas_are_one_value_and_are_checked() -> None:
    run, = load(STUDY + "grid: [{decoder: attention, decoder_options: 'heads=2,depth=4'}]").configurations
    assert run.config.decoder_options == "depth=4,heads=2"
    line, = wrong(STUDY + "grid: [{decoder: attention, decoder_options: 'hads=2,depth=4'}]")
    assert line.startswith("s.yaml:2, block 1: decoder_options: decoder 'attention' has no option 'hads'")


def test_anchors_stand_for_what_they_name() -> None:
    spec = load(STUDY + "grid:\n- {encoder: vgg16, seed: &seeds [1, 2]}\n- {encoder: resnet34, seed: *seeds}")
    assert [each.config.seed for each in spec.configurations] == [1, 2, 1, 2]


def test_an_encoder_and_a_layer_combine_in_a_block() -> None:
    spec = load(STUDY + "grid: [{encoder: vgg16, layer: [block2, block3]}]")
    assert [each.config.encoder for each in spec.configurations] == ["vgg16:block2", "vgg16:block3"]
    line, = wrong(STUDY + "grid: [{encoder: 'vgg16:block1', layer: [block2]}]")
    assert line.startswith("s.yaml:2, block 1: layer 'block2' beside encoder 'vgg16:block1'")


def test_base_may_be_empty_or_absent() -> None:
    for base in ("", "base:\n", "base: {}\n"):
        assert load(f"{STUDY}{base}grid: [{{seed: 3}}]").base == {"strict": "true"}


def test_what_was_read_is_kept_with_the_file() -> None:
    text = "\N{BYTE ORDER MARK}study: 2024.b_c-d\nbase: {epochs: 3}\ngrid: [{seed: 3}]\n"
    spec = load(text)
    assert (spec.study, spec.path, spec.text) == ("2024.b_c-d", Path("s.yaml"), text[1:])
    assert spec.base == {"epochs": "3", "strict": "true"}
    assert spec.search is None


# the name of the study

def test_another_name_of_the_study_replaces_that_of_the_file_which_may_then_be_absent() -> None:
    assert load("study: a\ngrid: [{seed: 1}]", study="b").study == "b"
    assert load("grid: [{seed: 1}]", study="b").study == "b"


@pytest.mark.parametrize("name", ["a b", "ä", "a/b", "-a", ".", "a" * 101, "a\nb", ""])
def test_a_study_has_a_plain_name(name: str) -> None:
    assert wrong("grid: [{seed: 1}]", study=name)[0].startswith(f"--study {name}".strip().replace("\n", " "))
    line, = wrong(f"study: {name!r}\ngrid: [{{seed: 1}}]") if name.isprintable() else ["s.yaml:1: study"]
    assert line.startswith("s.yaml:1: study")


# everything that is wrong, with its position

WRONG: dict[str, tuple[str, list[str]]] = {
    "empty file": ("", ["s.yaml:1: the file is empty"]),
    "only a comment": ("# study: s\n", ["s.yaml:1: the file is empty"]),
    "a list at the top": ("\n- study: s", [f"s.yaml:2: a spec is a mapping of {KEYS}"]),
    "a text at the top": ("study", [f"s.yaml:1: a spec is a mapping of {KEYS}"]),
    "syntax": ("study: s\ngrid: [", ["s.yaml:2: not YAML: while parsing"]),
    "tab": ("study: s\ngrid:\n\t- seed: 1", ["s.yaml:3: not YAML: *'\\t'*(indent with spaces)"]),
    "control character": ("study: s\n\x01", ["s.yaml:2: not YAML: the character '\\x01' is not allowed"]),
    "two documents": ("study: s\n---\na: b", ["s.yaml:2: not YAML: expected a single document"]),
    "unknown alias": ("study: *x", ["s.yaml:1: not YAML: found undefined alias 'x'"]),
    "tag": ("study: s\ngrid: !!python/object/apply:os.getcwd []", ["s.yaml:2: the tag"]),
    "merge key": ("study: s\ngrid:\n- &a {seed: 1}\n- {<<: *a}", ["s.yaml:4: merge keys (<<) are not supported"]),
    "key that is a list": ("study: s\n[a]: b", ["s.yaml:2: a list or a mapping cannot be a key"]),
    "list in itself": ("study: s\ngrid: &a [*a]", ["s.yaml:2: nested too deeply"]),
    "very deep": ("study: s\ngrid: " + "[" * 1000, ["s.yaml:1: nested too deeply"]),
    "key twice": ("study: s\ngrid:\n- seed: 1\n  lr: 1\n  seed: 2",
                  ["s.yaml:5: duplicate key seed, first at s.yaml:3"]),
    "section twice": ("study: s\nstudy: t\ngrid: [{seed: 1}]", ["s.yaml:2: duplicate key study, first at s.yaml:1"]),
    "unknown section": ("study: s\ngrdi: []\ngrid: [{seed: 1}]",
                        [f"s.yaml:2: a spec has no 'grdi'. Known: {KEYS}. Did you mean 'grid'?"]),
    "an unknown limit": ("study: s\ngrid: [{seed: 1}]\nlimits: {time_total_s: 60}",
                         ["s.yaml:3: limits has no 'time_total_s'. Known: run_time. Did you mean 'run_time'?"]),
    "a limit without a unit": ("study: s\ngrid: [{seed: 1}]\nlimits: {run_time: 60}",
                               ["s.yaml:3: run_time: '60' is not a duration. Allowed: a number above 0 with s, m, h"]),
    "limits that are none": ("study: s\ngrid: [{seed: 1}]\nlimits: 2h", ["s.yaml:3: limits is a mapping"]),
    "neither": ("\nstudy: s", ["s.yaml:2: a spec needs a grid or a search"]),
    "no study": ("grid: [{seed: 1}]", ["s.yaml:1: a spec needs a study"]),
    "empty study": ("study:\ngrid: [{seed: 1}]", ["s.yaml:1: study: expected a single value, got nothing"]),
    "study is a list": ("study: [a]\ngrid: [{seed: 1}]", ["s.yaml:1: study: expected a single value, got a list"]),
    "base is a list": ("study: s\nbase: [a]\ngrid: [{seed: 1}]", ["s.yaml:2: base is a mapping"]),
    "list in base": ("study: s\nbase:\n  lr: 1\n  seed: [1, 2]\ngrid: [{epochs: 1}]",
                     ["s.yaml:4: seed: base has one value for each parameter. A list is an axis, and belongs in"]),
    "unknown parameter in base": ("study: s\nbase:\n  sed: 1\ngrid: [{epochs: 1}]",
                                  ["s.yaml:3: unknown parameter 'sed'*Did you mean 'seed'?"]),
    "wrong value in base": ("study: s\nbase:\n  epochs: 0\ngrid: [{seed: 1}]",
                            ["s.yaml:3: epochs: '0' is not allowed"]),
    "unknown decoder in base": ("study: s\nbase: {decoder: wavlet}\ngrid: [{seed: 1}]",
                                ["s.yaml:2: unknown decoder 'wavlet'*Did you mean 'wavelet'?"]),
    "no value in base": ("study: s\nbase:\n  weights:\ngrid: [{seed: 1}]",
                         ["s.yaml:3: weights has no value: leave it out, or write auto"]),
    "null in base": ("study: s\nbase: {epochs: ~}\ngrid: [{seed: 1}]", ["s.yaml:2: epochs has no value: leave it out"]),
    "grid is null": ("study: s\ngrid:", ["s.yaml:2: grid is a list of one or more blocks"]),
    "grid is empty": ("study: s\ngrid: []", ["s.yaml:2: grid is a list of one or more blocks"]),
    "grid is one block": ("study: s\ngrid: {seed: 1}", ["s.yaml:2: grid is a list of one or more blocks"]),
    "empty blocks": ("study: s\ngrid:\n- {}\n-\n",
                     ["s.yaml:3, block 1: an empty block", "s.yaml:4, block 2: an empty block"]),
    "a block is a text": ("study: s\ngrid: [a]", ["s.yaml:2, block 1: a block is a mapping"]),
    "empty axis": ("study: s\ngrid:\n- seed: []", ["s.yaml:3, block 1: seed: an empty list"]),
    "nested list": ("study: s\ngrid:\n- seed: [[1]]", ["s.yaml:3, block 1: seed: a value of an axis is"]),
    "mapping as a value": ("study: s\ngrid:\n- seed: {low: 1}", ["s.yaml:3, block 1: seed: a value of an axis is"]),
    "empty value": ("study: s\ngrid:\n- data: [a, ]\n  weights: [random, '']",
                    ["s.yaml:4, block 1: weights has no value: leave it out, or write auto"]),
    "unknown axis": ("study: s\ngrid:\n- {seed: 1}\n- encdoer:\n  - vgg16",
                     ["s.yaml:4, block 2: unknown parameter 'encdoer'*Did you mean 'encoder'?"]),
    "unknown encoder": ("study: s\ngrid:\n- encoder:\n  - vgg16\n  - vgg61",
                        ["s.yaml:5, block 1: unknown encoder 'vgg61'*Did you mean 'vgg16'?"]),
    "unknown layer": ("study: s\ngrid:\n- encoder: ['vgg16:blok1']",
                      ["s.yaml:3, block 1: vgg16 has no layer 'blok1'*Did you mean 'block1'?"]),
    "unknown layer beside its encoder": ("study: s\ngrid:\n- encoder: vgg16\n  layer: [block1, blok2]",
                                         ["s.yaml:3, block 1: vgg16 has no layer 'blok2'*Did you mean 'block2'?"]),
    "unknown fusion": ("study: s\ngrid:\n- encoder: ensemble\n  fusion: [concat, cat]",
                       ["s.yaml:4, block 1: unknown fusion 'cat'"]),
    "fusion of one encoder": ("study: s\ngrid:\n- encoder: [ensemble, vgg16]\n  fusion: concat",
                              ["s.yaml:3, block 1: fusion=concat needs two encoders or more, and encoder=vgg16"]),
    "out of range": ("study: s\ngrid:\n- image_size:\n  - 224\n  - 225",
                     ["s.yaml:5, block 1: image_size: '225' is not allowed*a multiple of 32"]),
    "wrong options": ("study: s\ngrid:\n- seed: [1, 2]\n  decoder_options: [depth]",
                      ["s.yaml:4, block 1: decoder_options: 'depth' is not"]),
}


@pytest.mark.parametrize(("text", "lines"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_reported_with_its_line(text: str, lines: list[str]) -> None:
    found = wrong(text)
    assert len(found) == len(lines), found
    for line, expected in zip(found, lines, strict=True):
        beginning, _, rest = expected.partition("*")
        assert line.startswith(beginning)
        for part in filter(None, rest.split("*")):
            assert part in line


def test_every_error_is_reported_at_once_in_the_order_of_the_file() -> None:
    lines = wrong("base: {epochs: 0}\ngrid:\n- encoder: [vgg61, vgg16]\n  decoder: wavlet\n- {fusion: concat}\nsed: 1")
    assert [line.partition(": ")[0] for line in lines] == [
        "s.yaml:6", "s.yaml:1", "s.yaml:1", "s.yaml:3, block 1", "s.yaml:4, block 1", "s.yaml:5, block 2"]


def test_a_wrong_value_is_reported_once_however_many_runs_have_it() -> None:
    axes = "encoder: [vgg16, resnet34, vit_small], decoder: [wavlet, wavelet], seed: [1, 2]"
    assert len(wrong(f"{STUDY}grid: [{{{axes}}}]")) == 1


def test_values_that_do_not_go_together_are_reported_once_for_all_blocks() -> None:
    line, = wrong(STUDY + "base: {lr: 1e-7}\ngrid:\n- {seed: [1, 2]}\n- {seed: [3, 4]}")
    assert line.startswith("s.yaml:4, block 1: min_lr 1e-06 is above lr 1e-07")
    assert line.endswith("(also in s.yaml:5, block 2)")


def test_of_many_wrong_combinations_the_first_are_reported() -> None:
    encoders = [f"{name}:{layer}" for name, spec in ENCODERS.items() for layer in spec.layers]
    lines = wrong(f"{STUDY}base: {{fusion: concat}}\ngrid: [{{encoder: {encoders}}}]")
    assert len(lines) == 6
    assert lines[-1] == f"s.yaml:3, block 1: {len(encoders) - 5} more combinations are wrong in the same way"


# the same run twice

@pytest.mark.parametrize(("grid_text", "lines"), [
    ("- seed:\n  - 0\n  - 1\n  - 0", ["s.yaml:5, block 1: seed=0 gives the same run as seed=0 (s.yaml:3, block 1)"]),
    ("- seed: [5, 5, 5]", ["s.yaml:2, block 1: seed=5 gives the same run as seed=5 (s.yaml:2, block 1)"]),
    ("- encoder:\n  - vgg16\n  - 'vgg16:block1'\n  decoder: [wavelet, attention]",
     ["s.yaml:4, block 1: encoder=vgg16:block1 gives the same run as encoder=vgg16 (s.yaml:3, block 1)"]),
    ("- {lr: [1e-4, 0.0001], seed: [1, 1]}",
     ["s.yaml:2, block 1: seed=1 gives the same run as seed=1 (s.yaml:2, block 1)",
      "s.yaml:2, block 1: lr=0.0001 gives the same run as lr=1e-4 (s.yaml:2, block 1)"]),
    ("- {encoder: vgg16}\n- {encoder: 'vgg16:block1'}",
     ["s.yaml:3, block 2: vgg16:block1+transposed_conv is in the grid already, at s.yaml:2, block 1"]),
    ("- {encoder: vgg16, decoder: [wavelet, attention]}\n- {decoder: [attention, wavelet]}",
     ["s.yaml:3, block 2: 2 runs (vgg16:block1+attention, …) are in the grid already, at s.yaml:2, block 1"]),
    ("- {encoder: ensemble}\n- {encoder: '" + "+".join(map(str, ENSEMBLE)) + "', fusion: weighted}",
     ["s.yaml:3, block 2: ensemble+weighted+transposed_conv is in the grid already, at s.yaml:2, block 1"]),
    ("- {device: ['cuda:0', 'cuda:1']}",
     ["s.yaml:2, block 1: device=cuda:1 gives the same run as device=cuda:0 (s.yaml:2, block 1)"]),
    ("- {threads: [1, 2]}", ["s.yaml:2, block 1: threads=2 gives the same run as threads=1 (s.yaml:2, block 1)"]),
    ("- {lpips_weights: off, lpips_weight: [0.5, 1]}",
     ["s.yaml:2, block 1: lpips_weight=1 gives the same run as lpips_weight=0.5 (s.yaml:2, block 1)"]),
])
def test_two_requests_for_the_same_run_are_refused_with_both_positions(grid_text: str, lines: list[str]) -> None:
    assert wrong(f"grid:\n{grid_text}\nstudy: s\n") == lines


def test_runs_that_differ_in_anything_that_matters_are_no_duplicates() -> None:
    text = "- {lpips_weights: [imagenet, off]}\n- {lpips_weight: [0.4, 0.6]}\n- {device: [cpu, cuda], seed: 1}"
    assert len(load(f"{STUDY}grid:\n{text}").configurations) == 6


# size

def test_a_grid_that_is_too_large_is_refused_before_it_is_made() -> None:
    axes = ", ".join(f"{name}: {list(range(100))}" for name in ("seed", "train_limit", "val_limit", "test_limit"))
    text = f"{STUDY}grid:\n- {{{axes}}}\n- {{lr: 1e-3}}"
    assert wrong(text) == ["s.yaml:2: the grid has 100,000,001 runs; at most 10,000 are allowed"]


def test_the_largest_grid_is_still_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "MAX_RUNS", 6)
    assert len(load(STUDY + "grid: [{seed: [1, 2, 3], lr: [1, 2]}]").configurations) == 6
    monkeypatch.setattr(grid, "MAX_RUNS", 5)
    assert wrong(STUDY + "grid: [{seed: [1, 2, 3], lr: [1, 2]}]")


def test_aliases_of_aliases_stay_small() -> None:
    """Written out, these would be 9 to the 60th values."""
    laughs = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 60))
    lines = wrong(f"a0: &a0 [1, 2]\n{laughs}{STUDY}grid: [{{seed: *a59}}]")
    assert lines[-1].endswith("block 1: seed: a value of an axis is a text or a number, not a list or a mapping")
