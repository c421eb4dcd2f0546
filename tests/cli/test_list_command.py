"""``inversion list``: names, shapes and counts that are right, and at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from inversion.cli.app import cli
from inversion.models import counts
from inversion.models.decoders import decoders
from inversion.models.encoders.catalog import ENCODERS
from inversion.models.fusion import fusions


def listed(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["list", *arguments], catch_exceptions=False, env={"COLUMNS": "120"})
    assert result.exit_code == 0
    return result.output


def test_every_encoder_layer_decoder_and_fusion_is_listed() -> None:
    text = listed()
    for name, spec in ENCODERS.items():
        for layer in spec.listed:
            assert f"{name}:{layer} " in text
    for name in [*decoders.names(), *fusions.names()]:
        assert f" {name} " in text


def test_a_decoder_in_a_file_is_shown_with_its_options(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text('"""Mine, of a test."""\nfrom torch import nn\nclass Mine(nn.Module):\n'
                    "    def __init__(self, features, image_size, width: int = 64): ...\n")
    text = listed(f"{file}:Mine")
    assert "Mine, of a test." in text
    assert "width" in text
    assert "64" in text


def test_shapes_are_those_of_the_study() -> None:
    rows = {line.split()[0]: line for line in listed().splitlines() if ":" in line and line.split()}
    for cut, shape in {"vgg16:block1": "64×112×112", "vgg16:block3": "256×28×28", "resnet34:layer2": "128×28×28",
                       "vit_small:block3": "384×14×14", "pvt_v2_b2:stage2": "128×28×28"}.items():
        assert shape in rows[cut]


def test_the_shipped_counts_are_those_of_the_built_decoders() -> None:
    assert counts.shipped_counts() == counts.count_parameters(), "run: inversion list --recount"
    assert counts.shipped_counts()["vgg16:block1"]["transposed_conv"] == 33_731


def test_a_decoder_is_listed_with_its_options_and_their_defaults() -> None:
    text = listed("attention")
    for option, field in decoders.get("attention").OptionsType.model_fields.items():
        assert option in text
        assert str(field.default) in text


def test_a_layer_of_an_unknown_encoder_is_told_with_the_nearest() -> None:
    done = subprocess.run([sys.executable, "-m", "inversion", "list", "resnet43"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2
    assert "Did you mean 'resnet34'?" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["train", "--help"]])
def test_it_answers_without_pytorch_and_mlflow(arguments: list[str]) -> None:
    code = ("import sys; from inversion.cli.app import cli, run_command; "
            f"run_command(cli, {arguments!r}); "
            "sys.exit(bool({'torch', 'mlflow', 'timm', 'torchvision'} & set(sys.modules)))")
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 10  # about 0.3 s on a quiet machine
