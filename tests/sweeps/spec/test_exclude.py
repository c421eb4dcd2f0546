"""``exclude`` and ranges of layers: which runs of a grid are left."""

from __future__ import annotations

from pathlib import Path

import pytest

from inversion.config.run_config import RunConfig
from inversion.errors import RequestError, SeveralErrors
from inversion.models.encoders.catalog import expand_layers, parse_encoders
from inversion.sweeps.spec.spec import load_spec

GRID = """study: s
grid:
- encoder: ["vgg16:block1..3", resnet34]
  decoder: [wavelet, attention]
- {encoder: ensemble, fusion: [weighted, concat], lr: [1e-3]}
"""


def runs(exclude: str, grid: str = GRID, sets: tuple[str, ...] = (), where: tuple[str, ...] = ()) -> list[RunConfig]:
    Path("s.yaml").write_text(f"{grid}{exclude}")
    return load_spec("s.yaml", sets, where).configs


def wrong(exclude: str, grid: str = GRID, sets: tuple[str, ...] = (), where: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(SeveralErrors) as caught:
        runs(exclude, grid, sets, where)
    return caught.value.lines


# exclude

@pytest.mark.parametrize(("conditions", "left"), [
    ("[{encoder: vgg16}]", 4), ("[{encoder: 'vgg16:block2'}]", 8), ("[{decoder: wavelet}]", 6),
    ("[{encoder: vgg16, decoder: wavelet}]", 7), ("[{encoder: vgg16}, {decoder: wavelet}]", 3),
    ("[{encoder: ['vgg16:block1', resnet34], decoder: wavelet}]", 8), ("[{encoder: [vgg16, ensemble]}]", 2),
    ("[{encoder: 'vgg16:block2..5'}]", 6), ("[{lr: 0.001}]", 8), ("[{fusion: none, lr: 1e-4}]", 2),
    ("\n- encoder: vgg16\n  decoder:\n  - wavelet\n  - attention\n- fusion: concat", 3), ("[{layer: block3}]", 8),
])
def test_runs_for_which_a_condition_holds_are_left_out(conditions: str, left: int) -> None:
    every = runs("")
    kept = runs(f"exclude: {conditions}")
    assert (len(every), len(kept)) == (10, left)
    assert kept == [config for config in every if config in kept]


def test_what_is_excluded_need_not_be_valid() -> None:
    grid = ("study: s\ngrid: [{encoder: [vgg16, resnet34, ensemble], fusion: [auto, concat]},\n"
            "{encoder: [vgg16, resnet34], layer: [block2, layer2]}]\n")
    assert len(wrong("", grid)) == 4
    line, = wrong("exclude: [{encoder: [vgg16, resnet34], fusion: concat}, {encoder: vgg16, layer: layer2}]", grid)
    assert line.startswith("s.yaml:3, block 2: resnet34 has no layer 'block2'")
    kept = runs("exclude: [{encoder: [vgg16, resnet34], fusion: concat}, {encoder: vgg16, layer: layer2},\n"
                "{encoder: resnet34, layer: block2}]", grid)
    assert [(config.layer, config.fusion) for config in kept] == [
        ("block1", "none"), ("layer1", "none"), ("none", "weighted"), ("none", "concat"), ("block2", "none"),
        ("layer2", "none")]


def test_of_two_blocks_with_the_same_runs_one_may_leave_them_to_the_other() -> None:
    grid = "study: s\ngrid: [{decoder: [wavelet, attention], seed: 1}, {decoder: wavelet, seed: [1, 2], lr: 1e-3}]\n"
    assert len(runs("exclude: [{lr: 1e-3, seed: 1}]", grid)) == 3


def test_options_apply_before_the_exclusion_and_conditions_of_the_command_after_it() -> None:
    assert len(runs("exclude: [{seed: 2, decoder: wavelet}]", sets=("seed=[1, 2]",))) == 16
    assert len(runs("exclude: [{encoder: vgg16}]", where=("decoder=wavelet",))) == 1
    line, = wrong("exclude: [{encoder: vgg16}]", where=("encoder=vgg16",))
    assert line.startswith("--where encoder=vgg16: no run has encoder=vgg16. The spec has: resnet34, resnet34:layer1")


def test_values_of_a_tuned_parameter_can_be_excluded_for_a_part_of_the_grid() -> None:
    configs = runs("tune: {lr: [1e-4, 1e-3]}\nexclude: [{decoder: attention, lr: 1e-3}]",
                   "study: s\ngrid: [{decoder: [wavelet, attention], seed: [0, 1]}]\n")
    assert sorted({(config.decoder, config.lr) for config in configs}) == [
        ("attention", 1e-4), ("wavelet", 1e-4), ("wavelet", 1e-3)]


@pytest.mark.parametrize(("exclude", "lines"), [
    ("exclude: {encoder: vgg16}", ["s.yaml:6: exclude is a list of one or more conditions"]),
    ("exclude:", ["s.yaml:6: exclude is a list"]), ("exclude: []", ["s.yaml:6: exclude is a list"]),
    ("exclude: [vgg16, {}]", ["s.yaml:6, condition 1: a condition of", "s.yaml:6, condition 2: a condition"]),
    ("exclude:\n- {sed: 1}", ["s.yaml:7: unknown parameter 'sed'.*Did you mean 'seed'?"]),
    ("exclude:\n- {seed: }\n- {seed: []}\n- {seed: [{a: b}]}",
     ["s.yaml:7: seed has no value", "s.yaml:8: seed: an empty list", "s.yaml:9: seed: a value of a condition is"]),
    ("exclude:\n- decoder:\n  - wavelet\n  - wavlet",
     ["s.yaml:9: no run has decoder=wavlet. The spec has: wavelet, attention, *Did you mean 'wavelet'?"]),
    ("exclude: [{encoder: 'vgg16:block4'}]", ["s.yaml:6: no run has encoder=*Did you mean 'vgg16:block3'?"]),
    ("exclude: [{encoder: 'vgg16:block4..5'}]", ["s.yaml:6: no run has encoder=vgg16:block4..5."]),
    ("exclude: [{encoder: 'vgg16:block1..9'}]", ["s.yaml:6: no run has encoder=vgg16:block1..9."]),
    ("exclude: [{decoder: wavelet, seed: 3}]", ["s.yaml:6: no run has seed=3. The spec has: 0."]),
    ("exclude: [{decoder: wavelet}, {decoder: wavelet, fusion: concat}]",
     ["s.yaml:6, condition 2: no run has all of these"]),
    ("exclude: [{seed: 0}]", ["s.yaml:6: every run of the grid is excluded"]),
])
def test_a_condition_that_is_wrong_or_holds_for_no_run_is_reported(exclude: str, lines: list[str]) -> None:
    found = wrong(exclude)
    assert len(found) == len(lines), found
    for line, expected in zip(found, lines, strict=True):
        beginning, _, rest = expected.partition("*")
        assert line.startswith(beginning)
        assert rest in line


def test_a_search_has_no_exclude() -> None:
    assert wrong("exclude: [{seed: 0}]\nsearch: {trials: 2, space: {decoder: [wavelet, attention]}}", "study: s\n") == [
        "s.yaml:2: exclude is for a grid, and this is a search (at s.yaml:3)"]


def test_a_wrong_value_of_the_grid_is_reported_and_no_condition_that_it_would_have_met() -> None:
    line, = wrong("exclude: [{decoder: wavlet}]", "study: s\ngrid: [{decoder: [wavlet, attention]}]\n")
    assert line.startswith("s.yaml:2, block 1: unknown decoder 'wavlet'")


# ranges of layers

@pytest.mark.parametrize(("text", "layers"), [
    ("vgg16:block1..5", "block1 block2 block3 block4 block5"), ("vgg16:block2..block4", "block2 block3 block4"),
    ("vgg16: block3 .. 3", "block3"), ("vit_small:block9..12", "block9 block10 block11 block12"),
    ("pvt_v2_b2:stage2..4", "stage2 stage3 stage4"), ("vgg16:features.4..2", "block1 block2"),
    ("pvt_v2_b2:stage1-prenorm..2", "stage1-prenorm stage2-prenorm"),
])
def test_a_range_stands_for_its_layers_in_their_order(text: str, layers: str) -> None:
    name = text.partition(":")[0]
    assert expand_layers(text) == [f"{name}:{layer}" for layer in layers.split()]
    assert [str(cut) for each in expand_layers(f"{text}/pool=2") for cut in parse_encoders(each)] == [
        f"{name}:{layer}/pool=2" for layer in layers.split()]


@pytest.mark.parametrize("text", ["vgg16", "ensemble", "vgg16:block1", "vgg16:block1+resnet34:layer2", "../a:b"])
def test_what_is_no_range_stands_for_itself(text: str) -> None:
    assert expand_layers(text) == [text]


@pytest.mark.parametrize(("text", "message"), [
    ("vgg16:block1..7", "vgg16 has no layer 'block7'. Known: block1, block2, block3, block4, block5."),
    ("vgg16:block0..3", "vgg16 has no layer 'block0'."), ("vgg17:block1..3", "unknown encoder 'vgg17'."),
    ("vgg16:block3..1", "vgg16 has no layers from block3 to block1: the layers of a range have the same name and"),
    ("pvt_v2_b2:stage1..stage2-prenorm", "pvt_v2_b2 has no layers from stage1 to stage2-prenorm"),
    ("vgg16:block1..", "encoder 'vgg16:block1..': a range of layers has a first and a last one"),
    ("vgg16:block1..2+resnet34:layer1", "a range of layers stands for runs with one layer each; write fused layers"),
])
def test_a_range_outside_of_the_encoder_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        expand_layers(text)
    assert message in str(caught.value)
    line, = wrong("", f"study: s\ngrid:\n- encoder: ['{text}']\n")
    assert line.startswith("s.yaml:3, block 1: ")
    assert message in line


def test_a_range_is_an_axis_in_a_grid_in_set_and_in_where() -> None:
    assert [config.layer for config in runs("", "study: s\ngrid: [{encoder: 'vgg16:block2..4'}]\n")] == [
        "block2", "block3", "block4"]
    grid = "study: s\ngrid: [{seed: [1, 2]}]\n"
    assert [config.layer for config in runs("", grid, sets=("encoder=vgg16:block4..5",))] == [
        "block4", "block5", "block4", "block5"]
    assert len(runs("", grid, sets=("encoder=[vgg16:block1..3, resnet34:layer1..2]",))) == 10
    assert len(runs("", where=("encoder=vgg16:block2..5", "encoder=ensemble"))) == 6
    line, = wrong("", "study: s\ngrid: [{encoder: ['vgg16:block1..3', 'vgg16:block2']}]\n")
    assert line == ("s.yaml:2, block 1: encoder=vgg16:block2 gives the same run as encoder=vgg16:block2 (s.yaml:2, "
                    "block 1)")


def test_a_search_chooses_among_the_layers_of_a_range() -> None:
    Path("s.yaml").write_text("study: s\nsearch: {trials: 2, space: {encoder: ['vgg16:block1..3', resnet34]}}")
    search = load_spec("s.yaml").search
    assert search is not None
    assert search.space["encoder"].extremes() == ("vgg16:block1", "vgg16:block2", "vgg16:block3", "resnet34")


def test_a_range_where_one_layer_is_needed_is_told_where_it_belongs() -> None:
    line, = wrong("", "study: s\nbase: {encoder: 'vgg16:block1..3'}\ngrid: [{seed: 1}]\n")
    assert line.startswith("s.yaml:2: encoder 'vgg16:block1..3' is a range of layers, and one layer is needed here")
