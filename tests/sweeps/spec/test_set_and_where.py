"""``--set`` and ``--where``: one change for all runs, and a part of a grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from inversion.config.run_config import RunConfig
from inversion.errors import SeveralErrors
from inversion.sweeps.spec.conditions import matcher
from inversion.sweeps.spec.spec import load_spec

GRID = """study: s
base: {epochs: 7}
grid:
- encoder: ["vgg16:block1", "vgg16:block3", resnet34]
  decoder: [wavelet, attention]
- {encoder: ensemble, fusion: [weighted, concat], lr: [1e-3]}
- {encoder: "vgg16:block2+vgg16:block1"}
"""

SEARCH = """study: s
base: {epochs: 7}
search: {trials: 3, space: {lr: {low: 1e-4, high: 1e-3}}}
"""


@pytest.fixture(autouse=True)
def specs(here: None) -> None:
    Path("s.yaml").write_text(GRID)
    Path("search.yaml").write_text(SEARCH)


def runs(*sets: str, where: tuple[str, ...] = ()) -> list[RunConfig]:
    return [each.config for each in load_spec("s.yaml", sets, where).configurations]


def wrong(*sets: str, where: tuple[str, ...] = (), file: str = "s.yaml") -> list[str]:
    with pytest.raises(SeveralErrors) as caught:
        load_spec(file, sets, where)
    return caught.value.lines


# --set

def test_nothing_set_is_the_file() -> None:
    assert len(runs()) == 9
    assert {config.epochs for config in runs()} == {7}


def test_a_value_replaces_that_of_the_base_and_stands_in_it() -> None:
    assert {config.epochs for config in runs("epochs=8")} == {8}
    assert load_spec("s.yaml", ["epochs = 8", "strict=no"]).base == {"strict": "no", "epochs": "8"}


def test_a_value_that_is_nowhere_in_the_file_is_that_of_all_runs() -> None:
    assert {config.batch_size for config in runs("batch_size=2")} == {2}
    assert len(runs("batch_size=2")) == 9


def test_a_value_replaces_the_only_one_of_a_block() -> None:
    assert [config.lr for config in runs("lr=2e-3")] == [2e-3] * 9


def test_a_value_with_equals_signs_and_commas_is_one_value() -> None:
    assert runs("weights=vgg16=a.pth,resnet34=b.pth")[0].weights == "vgg16=a.pth,resnet34=b.pth"


def test_a_list_is_one_more_axis_of_every_block() -> None:
    plain, seeded = runs(), runs("seed=[3, 4,5]")
    assert [config.model_copy(update={"seed": seed}) for config in plain for seed in (3, 4, 5)] == seeded


def test_a_list_takes_the_place_of_one_value_in_the_base_and_in_blocks() -> None:
    assert [config.lr for config in runs("lr=[0.1, 0.2]")] == [0.1, 0.2] * 9
    spec = load_spec("s.yaml", ["epochs=[8, 9]"])
    assert [each.config.epochs for each in spec.configurations] == [8, 9] * 9
    assert "epochs" not in spec.base


def test_the_order_of_settings_changes_no_run() -> None:
    assert set(runs("epochs=[1, 2]", "seed=[1, 2]", "lr=1")) == set(runs("lr=1", "seed=[1, 2]", "epochs=[1, 2]"))


def test_a_value_where_a_block_has_several_is_refused_with_the_way_to_run_a_part() -> None:
    assert wrong("fusion=concat") == ["--set fusion=concat: fusion has several values in s.yaml:6, block 2. "
                                      "To run some of them: --where fusion=concat"]
    line, = wrong("decoder=[wavelet, attention]")
    assert line.endswith("s.yaml:4, block 1. To run some of them: --where decoder=wavelet --where decoder=attention")


def test_all_blocks_that_have_several_values_are_named() -> None:
    Path("s.yaml").write_text("study: s\ngrid: [{seed: [1, 2]},\n{seed: [3, 4]}, {seed: 5}]")
    line, = wrong("seed=1")
    assert "seed has several values in s.yaml:2, block 1 and s.yaml:3, block 2." in line


@pytest.mark.parametrize(("settings", "lines"), [
    (["epochs"], ["--set epochs: not of the form name=value (as in --set seed=1)"]),
    (["=3"], ["--set =3: not of the form name=value"]),
    (["epohs=3"], ["--set epohs=3: unknown parameter 'epohs'. Known: encoder, "]),
    (["epochs="], ["--set epochs=: epochs has no value: leave it out"]),
    (["data="], ["--set data=: data has no value: leave it out, or write auto"]),
    (["epochs=0"], ["--set epochs=0: epochs: '0' is not allowed"]),
    (["lr=x"], ["--set lr=x: lr: 'x' is not allowed. Allowed: a number, above 0."]),
    (["decoder=wavlet"], ["--set decoder=wavlet: unknown decoder 'wavlet'"]),
    (["seed=1", "seed=2"], ["--set seed=2: seed is set twice; several values are written as seed=[A, B]"]),
    (["seed=[]"], ["--set seed=[]: an axis is a list of values, as in seed=[0, 1, 2]"]),
    (["seed=[1"], ["--set seed=[1: an axis is a list"]),
    (["seed=[[1]]"], ["--set seed=[[1]]: an axis is a list"]),
    (["seed=[1, [2]]"], ["--set seed=[1, [2]]: an axis is a list"]),
    (["seed=[1, x, y]"], ["--set seed=[1, x, y]: seed: 'x' is not allowed",
                          "--set seed=[1, x, y]: seed: 'y' is not allowed"]),
    (["seed=[1, 1]"], ["--set seed=[1, 1]: seed=1 gives the same run as seed=1 (--set seed=[1, 1])"]),
    (["seed=[1, 2]", "epochs=x", "a=b"], ["--set epochs=x: ", "--set a=b: "]),
    (["layer=block1"], ["s.yaml:4, block 1: layer 'block1' beside encoder", "s.yaml:4, block 1: resnet34 has no layer",
                        "s.yaml:6, block 2: layer", "s.yaml:7, block 3: layer"]),
])
def test_a_setting_that_is_wrong_is_reported(settings: list[str], lines: list[str]) -> None:
    found = wrong(*settings)
    assert len(found) == len(lines), found
    for line, beginning in zip(found, lines, strict=True):
        assert line.startswith(beginning)


# --where

@pytest.mark.parametrize(("where", "count"), [
    ((), 9),
    (("encoder=vgg16",), 4),
    (("encoder=vgg16:block1",), 2),
    (("encoder=resnet34:layer1",), 2),
    (("encoder=resnet34",), 2),
    (("encoder=ensemble",), 2),
    (("encoder=vgg16:block2+vgg16",), 1),
    (("encoder=vgg16", "encoder=ensemble"), 6),
    (("decoder=wavelet",), 3),
    (("decoder=wavelet", "encoder=vgg16"), 2),
    (("decoder=wavelet", "decoder=attention"), 6),
    (("decoder=transposed_conv", "fusion=weighted"), 2),
    (("fusion=none",), 6),
    (("fusion = concat",), 1),
    (("lr=0.001",), 2),
    (("lr=1e-4",), 7),
    (("layer=block3",), 2),
    (("epochs=07",), 9),
    (("strict=yes",), 9),
    (("decoder_options=auto",), 9),
])
def test_what_is_kept_has_one_of_the_values_of_each_name(where: tuple[str, ...], count: int) -> None:
    kept = runs(where=where)
    assert len(kept) == count
    assert kept == [config for config in runs() if config in kept]


@pytest.mark.parametrize("name", ["encoder", "decoder", "fusion", "lr"])
def test_the_values_of_a_parameter_divide_the_grid(name: str) -> None:
    values = {str(getattr(config, name)) for config in runs()}
    assert sum(len(runs(where=(f"{name}={value}",))) for value in values) == 9
    assert runs(where=tuple(f"{name}={value}" for value in values)) == runs()


def test_an_encoder_whose_name_begins_alike_is_another_one() -> None:
    test = matcher("encoder", "vgg16")
    assert test(RunConfig(encoder="vgg16:block2"))
    assert not test(RunConfig(encoder="vgg16_bn:block2"))


def test_options_are_compared_whatever_their_order() -> None:
    assert len(runs("decoder_options=auto", where=("decoder_options=auto",))) == 9
    Path("s.yaml").write_text("study: s\ngrid: [{decoder: attention, decoder_options: ['depth=4,heads=2', depth=3]}]")
    assert len(runs(where=("decoder_options= heads=2, depth=4",))) == 1


def test_what_was_set_can_be_chosen() -> None:
    assert len(runs("seed=[1, 2, 3]", where=("seed=2", "seed=3", "encoder=ensemble"))) == 4


def test_the_positions_of_what_is_kept_are_those_of_the_file() -> None:
    spec = load_spec("s.yaml", wheres=["encoder=ensemble"])
    assert [each.where for each in spec.configurations] == ["s.yaml:6, block 2"] * 2


@pytest.mark.parametrize(("where", "lines"), [
    (("seed",), ["--where seed: not of the form name=value (as in --where seed=1)"]),
    (("sed=1",), ["--where sed=1: unknown parameter 'sed'."]),
    (("seed=",), ["--where seed=: seed has no value"]),
    (("seed=1",), ["--where seed=1: no run has seed=1. The spec has: 0."]),
    (("lr=x",), ["--where lr=x: no run has lr=x. The spec has: 0.0001, 0.001."]),
    (("fusion=concta",), ["--where fusion=concta: no run has fusion=concta. The spec has: none, weighted, concat. "
                          "Did you mean 'concat'?"]),
    (("encoder=vgg61",), ["--where encoder=vgg61: no run has encoder=vgg61. The spec has: vgg16, vgg16:block1, "
                          "vgg16:block3, resnet34, resnet34:layer1, ensemble, vgg16:block2+vgg16:block1. "
                          "Did you mean 'vgg16'?"]),
    (("encoder=vit_small",), ["--where encoder=vit_small: no run has"]),
    (("encoder=vgg16:block2",), ["--where encoder=vgg16:block2: no run has"]),
    (("decoder=wavelet", "decoder=wavlet", "seed=3"), ["--where decoder=wavlet: no run has", "--where seed=3: no run"]),
    (("decoder=wavelet", "fusion=concat"), ["--where decoder=wavelet --where fusion=concat: no run has all of these"]),
])
def test_a_where_that_selects_nothing_is_reported_with_what_there_is(where: tuple[str, ...], lines: list[str]) -> None:
    found = wrong(where=where)
    assert len(found) == len(lines), found
    assert all(line.startswith(beginning) for line, beginning in zip(found, lines, strict=True)), found


def test_of_very_many_values_the_first_are_listed() -> None:
    line, = wrong(f"seed={list(range(50))}", where=("seed=50",))
    assert "The spec has: 0, 1, 2" in line
    assert ", 19, …." in line


def test_a_wrong_grid_is_reported_before_a_wrong_selection() -> None:
    lines = wrong("epochs=x", where=("seed=1", "sed=1"))
    assert [line.partition(":")[0] for line in lines] == ["--set epochs=x", "--where sed=1"]


# searches

def test_a_search_takes_settings_of_one_value_for_its_base() -> None:
    assert load_spec("search.yaml", ["epochs=8", "seed=1"]).base == {"strict": "true", "epochs": "8", "seed": "1"}


@pytest.mark.parametrize(("sets", "where", "beginning"), [
    (("lr=1e-3",), (), "search.yaml:3: lr has one value already, at --set lr=1e-3:"),
    (("seed=[1, 2]",), (), "--set seed=[1, 2]: an axis is for a grid"),
    ((), ("lr=1e-3",), "--where lr=1e-3: --where selects runs of a grid, and this is a search; use --set"),
    (("epochs=x",), (), "--set epochs=x: epochs: 'x' is not allowed"),
])
def test_what_is_for_grids_is_refused_in_a_search(
        sets: tuple[str, ...], where: tuple[str, ...], beginning: str) -> None:
    line, = wrong(*sets, where=where, file="search.yaml")
    assert line.startswith(beginning)
