"""Spec files: which one is taken, the shipped ones, what a dry run shows, and that all of it is quick."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import inversion
from inversion.cli.app import run_command
from inversion.config.resolve import run_name
from inversion.config.run_config import RunConfig
from inversion.console import Console
from inversion.errors import RequestError, SeveralErrors, UnknownNameError
from inversion.models.encoders.catalog import ENSEMBLE
from inversion.sweeps.spec.documents import find_spec
from inversion.sweeps.spec.dry_run import show
from inversion.sweeps.spec.spec import load_spec

SHIPPED = Path(inversion.__file__).parents[1] / "sweeps"
CUTS = ["resnet34:layer1", "resnet34:layer2", "vgg16:block1", "vgg16:block3", "vit_small:block1", "vit_small:block3",
        "pvt_v2_b2:stage1", "pvt_v2_b2:stage2"]
DECODERS = ["transposed_conv", "attention", "wavelet", "frequency_aware"]
STUDY = [*((cut, "none", decoder) for cut in CUTS for decoder in DECODERS),
         *(("+".join(map(str, ENSEMBLE)), fusion, decoder)
           for fusion in ("weighted", "attention", "concat") for decoder in DECODERS)]


# which file is taken

@pytest.mark.parametrize("name", ["grid", "grid.yaml", "smoke", "search.yaml"])
def test_shipped_files_are_found_from_any_folder_with_or_without_the_ending(name: str) -> None:
    assert find_spec(name) == SHIPPED / f"{name.removesuffix('.yaml')}.yaml"


def test_a_file_of_ones_own_goes_before_a_shipped_one_of_that_name() -> None:
    Path("grid.yaml").write_text("study: mine\ngrid: [{seed: 1}]")
    assert find_spec("grid.yaml") == Path("grid.yaml")
    assert load_spec("grid.yaml").study == "mine"


def test_a_folder_does_not_hide_a_shipped_file() -> None:
    Path("smoke").mkdir()
    assert find_spec("smoke") == SHIPPED / "smoke.yaml"


def test_paths_are_taken_as_they_are_and_stand_so_in_messages() -> None:
    Path("my specs").mkdir()
    Path("my specs/s.txt").write_text("study: s\ngrid: [{sed: 1}]")
    assert find_spec("my specs/s.txt") == Path("my specs/s.txt")
    with pytest.raises(SeveralErrors, match=r"^my specs/s\.txt:2, block 1: unknown parameter 'sed'"):
        load_spec("my specs/s.txt")


def test_shipped_files_stand_in_messages_by_their_name() -> None:
    assert load_spec("grid").configurations[0].where == "grid.yaml:10, block 1"


def test_an_unknown_name_is_reported_with_the_shipped_ones_and_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"^no spec file 'girds\.yaml'\. Known: .*grid\.yaml.*smoke\.yaml.*"
                                               r"Did you mean 'grid\.yaml'\?$"):
        find_spec("girds.yaml")


@pytest.mark.parametrize(("name", "message"), [
    (".", r"^'\.' is a folder, not a spec file\. Shipped specs: .*grid\.yaml"),
    ("", "is a folder"),
    ("x" * 5000, "cannot be accessed: .*name too long"),
    ("~nobody-of-this-name/s.yaml", "cannot be accessed"),
    ("latin.yaml", r"^latin\.yaml is not a text file in UTF-8 \(at byte 7\)$"),
    ("large.yaml", r"^large\.yaml is larger than 1,000,000 bytes"),
    ("/proc/self/mem", "^/proc/self/mem cannot be read: "),
    ("a\0b", "no spec file"),
])
def test_what_cannot_be_read_is_reported_in_one_line(name: str, message: str) -> None:
    Path("latin.yaml").write_bytes("study: ä".encode("latin-1"))
    Path("large.yaml").write_text("#" * 1_000_001)
    with pytest.raises(RequestError, match=message) as caught:
        load_spec(name)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_reported() -> None:
    Path("s.yaml").touch(mode=0)
    with pytest.raises(RequestError, match=r"^s\.yaml cannot be read: Permission denied$"):
        load_spec("s.yaml")


def test_a_pipe_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"study: s\ngrid: [{seed: 1}]")
    os.close(writer)
    assert load_spec(f"/dev/fd/{reader}").study == "s"


# the shipped files

@pytest.mark.parametrize("name", ["grid", "smoke", "published"])
def test_the_grids_are_the_44_runs_of_the_study(name: str) -> None:
    configs = [each.config for each in load_spec(name).configurations]
    assert sorted((config.encoder, config.fusion, config.decoder) for config in configs) == sorted(STUDY)
    assert len({run_name(config, []) for config in configs}) == len(STUDY) == 44


def test_the_grid_asks_for_the_studys_data_weights_and_settings() -> None:
    spec = load_spec("grid.yaml")
    assert (spec.study, spec.base) == ("ablation", {"data": "div2k", "weights": "imagenet", "strict": "true"})
    standard = RunConfig(data="div2k", weights="imagenet", strict=True).model_dump()
    for each in spec.configurations:
        varied = {"encoder", "layer", "fusion", "decoder"}
        assert each.config.model_dump(exclude=varied) == {k: v for k, v in standard.items() if k not in varied}


def test_the_published_grid_differs_in_its_protocol_and_its_designs_alone() -> None:
    spec = load_spec("published.yaml")
    assert (spec.study, spec.base) == ("published", {"protocol": "published", **load_spec("grid.yaml").base})
    for config in (each.config for each in spec.configurations):
        # the paper's transposed_conv is ours
        assert config.decoder_options == ("auto" if config.decoder == "transposed_conv" else "design=published")
        assert config.fusion_options == ("auto" if config.fusion == "none" else "design=published")


def test_the_small_grid_needs_no_download_and_no_gpu() -> None:
    spec = load_spec("smoke.yaml")
    assert spec.study == "smoke"
    for each in spec.configurations:
        config = each.config
        assert (config.data, config.weights, config.lpips_weights, config.device) == ("sample", "random", "off", "cpu")
        assert (config.image_size, config.strict) == (64, True)
        assert 0 < config.train_limit <= 16
        assert 0 < config.val_limit <= 8
        assert 0 < config.test_limit <= 8


def test_the_search_varies_decoder_rate_and_loss_weights() -> None:
    spec = load_spec("search.yaml")
    assert spec.search is not None
    assert set(spec.search.space) == {"decoder", "lr", "mse_weight", "lpips_weight"}
    assert spec.search.space["decoder"].extremes() == tuple(DECODERS)
    assert spec.search.distributions()["lr"].to_internal_repr(1e-4) == 1e-4
    assert (spec.search.metric, spec.search.pruner.name) == ("best/val_psnr", "median")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_file_is_a_right_spec(path: Path) -> None:
    spec = load_spec(path.name)
    assert spec.path == path
    assert spec.configurations or spec.search


# the dry run

def dry_run(name: str, width: int = 100, sets: tuple[str, ...] = (), wheres: tuple[str, ...] = ()) -> list[str]:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    show(load_spec(name, sets, wheres), console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def rows(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines if line.split() and line.split()[0].isdigit()]


def test_a_dry_run_shows_the_study_the_file_and_a_row_for_each_run() -> None:
    lines = dry_run("grid.yaml")
    assert lines[0] == f"study ablation from {SHIPPED / 'grid.yaml'}: 44 runs"
    table = rows(lines)
    assert [int(row[0]) for row in table] == list(range(1, 45))
    assert [row[1] for row in table] == [run_name(each.config, []) for each in load_spec("grid").configurations]
    assert table[0][2:] == ["resnet34:layer1", "transposed_conv", "none"]
    assert table[-1][1:] == ["ensemble+concat+frequency_aware", "ensemble", "frequency_aware", "concat"]
    assert lines[-1] == "all: data=div2k, weights=imagenet, strict=true"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_row_is_one_line(width: int) -> None:
    lines = dry_run("grid.yaml", width)
    header = next(index for index, line in enumerate(lines) if line.split()[:2] == ["#", "run"])
    assert len(lines) == header + 2 + 44 + 1
    assert max(map(len, lines[1:])) <= width


def test_parameters_that_vary_are_columns_and_the_others_stand_below() -> None:
    lines = dry_run("smoke.yaml", sets=("seed=[1, 2]", "lr=3e-4"), wheres=("encoder=vgg16:block1", "decoder=wavelet"))
    header = next(line.split() for line in lines if line.split()[:2] == ["#", "run"])
    assert header == ["#", "run", "seed"]
    assert rows(lines) == [["1", "vgg16:block1+wavelet", "seed=1", "1"], ["2", "vgg16:block1+wavelet", "seed=2", "2"]]
    below = " ".join(lines[lines.index(next(line for line in lines if line.startswith("all: "))):])
    assert "decoder=wavelet" in below
    assert "lr=0.0003" in below
    assert "image_size=64" in below
    assert "layer" not in below.replace("layer1", "")
    assert "patience" not in below


def test_one_run_has_no_columns_of_its_own() -> None:
    lines = dry_run("grid", wheres=("encoder=ensemble", "fusion=concat", "decoder=wavelet"))
    assert lines[0].endswith(": 1 run")
    assert rows(lines) == [["1", "ensemble+concat+wavelet"]]
    assert lines[-1].startswith("all: encoder=ensemble, decoder=wavelet, fusion=concat, data=div2k, weights=imagenet")


def test_brackets_in_values_are_shown_as_they_are() -> None:
    Path("s.yaml").write_text("study: s\nbase: {weights: '[red]/w.pth'}\ngrid: [{data: ['[b]/a', '[/b]']}]")
    text = " ".join(dry_run("s.yaml"))
    assert "[b]/a" in text
    assert "[/b]" in text
    assert "weights=[red]/w.pth" in text


def test_a_dry_run_of_a_search_shows_its_space_and_how_it_is_searched() -> None:
    lines = dry_run("search.yaml", 120)
    assert lines[0] == f"study search from {SHIPPED / 'search.yaml'}: a search of 50 trials"
    text = "\n".join(lines)
    for part in ("decoder", "transposed_conv, attention, wavelet, frequency_aware", "1e-05 to 0.01, logarithmic",
                 "maximize best/val_psnr", "sampler tpe", "on val/psnr", "encoder=vgg16:block1"):
        assert part in text
    Path("s.yaml").write_text("study: s\nsearch: {trials: 2000, sampler: {name: random}, "
                              "space: {epochs: {low: 2, high: 8, step: 2}}}")
    text = "\n".join(dry_run("s.yaml"))
    assert "a search of 2,000 trials" in text
    assert "2 to 8, in steps of 2" in text
    assert "pruner none, seed 0" in text


# speed

def test_grids_and_searches_are_read_and_shown_at_once_without_anything_slow() -> None:
    code = (
        "import sys\n"
        "from inversion.console import Console\n"
        "from inversion.sweeps.spec.dry_run import show\n"
        "from inversion.sweeps.spec.spec import load_spec\n"
        "slow = {'torch', 'torchvision', 'mlflow', 'timm', 'scipy', 'pandas', 'sqlalchemy', 'numpy', 'optuna'}\n"
        "for name in ('grid.yaml', 'smoke.yaml', 'mine.yaml'): show(load_spec(name), Console(width=100))\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)\n"
        "show(load_spec('search.yaml'), Console(width=100))  # sets options of a pruner, which Optuna has to know\n"
        "assert slow & set(sys.modules) == {'optuna', 'numpy'}, slow & set(sys.modules)\n"
    )
    Path("mine.yaml").write_text("study: s\nsearch: {trials: 3, sampler: gp, pruner: {name: hyperband}, "
                                 "space: {decoder: [wavelet, attention]}}")
    environment = os.environ | {"PYTHONPATH": str(SHIPPED.parent)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, env=environment, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "44 runs" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # of CPU time: others may be busy


def test_a_large_grid_is_read_in_seconds() -> None:
    started = time.process_time()
    assert len(load_spec("grid", [f"seed={list(range(200))}"]).configurations) == 8_800
    assert time.process_time() - started < 10


# how errors are shown

def test_each_of_several_errors_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def command() -> None:
        raise SeveralErrors(["s.yaml:1: one\n thing", "s.yaml:2: another"])

    assert run_command(command, []) == 2
    assert capsys.readouterr().err == "error: s.yaml:1: one thing\nerror: s.yaml:2: another\n"
