"""Requests that are wrong end before anything is built or tracked; runs that fail say why. Each in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]
WRONG = {
    "encoder": ({"encoder": "vgg61"}, "unknown encoder 'vgg61'. Known: vgg16, ", "Did you mean 'vgg16'?"),
    "layer": ({"encoder": "vgg16:blok1"}, "vgg16 has no layer 'blok1'. Known: block1, ", "Did you mean 'block1'?"),
    "layer as its own option": ({"encoder": "vgg16", "layer": "stage1"}, "vgg16 has no layer 'stage1'", "block5"),
    "layer given twice": ({"layer": "block2"}, "layer", "block1"),
    "decoder": ({"decoder": "wavlet"}, "decoder 'wavlet'. Known: ", "Did you mean 'wavelet'?"),
    "fusion": ({"encoder": "vgg16:block1+resnet34:layer1", "fusion": "atention"}, "fusion 'atention'. Known: ",
               "Did you mean 'attention'?"),
    "fusion of one encoder": ({"fusion": "concat"}, "fusion=concat needs two encoders", "Leave fusion out"),
    "decoder's option": ({"decoder": "wavelet", "decoder_options": "wavlet=db2"}, "wavlet", "wavelet"),
    "data folder": ({"data": "./no-such-folder"}, "no-such-folder", "sample"),
    "weights file": ({"weights": "no-such-file.pth"}, "'no-such-file.pth': no such file", "imagenet"),
    "weights of another encoder": ({"weights": "resnet34=random"}, "vgg16", "vgg16=FILE"),
    "LPIPS weights": ({"lpips_weights": "no-such-file.pth"}, "lpips_weights: no such file", "no-such-file.pth"),
    "number": ({"epochs": "many"}, "epochs: 'many' is not allowed", "a whole number, 1 or more"),
    "range": ({"image_size": 100}, "image_size: '100' is not allowed", "multiple of 32"),
    "choice": ({"protocol": "publisched"}, "protocol: 'publisched' is not allowed", "Did you mean 'published'?"),
    "truth value": ({"strict": "perhaps"}, "strict: 'perhaps' is not allowed", "true or false"),
    "device": ({"device": "gpu"}, "device: 'gpu' is not allowed", "cuda"),
    "nothing to train for": ({"mse_weight": 0}, "nothing to train for", "lpips_weights=FILE"),
    "fallback that strict refuses": ({"data": "auto", "data_dir": "empty", "strict": "true"}, "strict=true refuses",
                                     "inversion data div2k"),
}


@pytest.mark.usefixtures("nothing_is_built")
@pytest.mark.parametrize(("parameters", "beginning", "remedy"), WRONG.values(), ids=WRONG)
def test_a_wrong_value_is_refused_in_one_line_that_helps(
        parameters: dict[str, object], beginning: str, remedy: str, train: Command, all_runs: Runs) -> None:
    line = train(**parameters).refused()
    assert beginning in line
    assert remedy in line[line.index(beginning):]
    assert all_runs() == []


@pytest.mark.usefixtures("nothing_is_built")
def test_weights_of_another_kind_of_file_are_refused(train: Command, all_runs: Runs, workplace: Path) -> None:
    (workplace / "weights.zip").write_bytes(b"PK")
    assert "only state dicts as .pth, .pt, .safetensors are read" in train(weights="weights.zip").refused()
    assert all_runs() == []


@pytest.mark.usefixtures("nothing_is_built")
def test_a_folder_without_photographs_is_refused(train: Command, all_runs: Runs, workplace: Path) -> None:
    (workplace / "photos").mkdir()
    assert "photos" in train(data=workplace / "photos").refused()
    assert all_runs() == []


SIZES = "is not allowed. Allowed: a whole number, 32 or more, at most 1024, a multiple of 32."
NUMBERS = "is not allowed. Allowed: a whole number, 0 or more"


@pytest.mark.parametrize(("words", "beginning"), [
    (["trian"], "unknown command 'trian'. Known: train, "),
    (["train", "--epoch", "3"], "No such option '--epoch'"),
    (["train", "--epochs"], "Option '--epochs' requires an argument"),
    (["train", "extra"], "Got unexpected extra argument (extra)"),
    (["train", "--resume", "abc", "--epochs", "3", "--lr", "1"],
     "--resume takes its parameters from the run, and only --epochs extends it; leave out --lr"),
    (["list", "--image-size", "x"], "Invalid value for '--image-size'"),
    *((["list", "--image-size", size], f"Invalid value for '--image-size': '{size}' {SIZES}")
      for size in ("0", "-32", "33", "1056", "nan", "1e999")),
    *((["data", "photos", "--image-size", size], f"Invalid value for '--image-size': '{size}' {SIZES}")
      for size in ("0", "-1", "100000", "1.5", "9" * 30)),
    *((["evaluate", "run", "--test-limit", limit], f"Invalid value for '--test-limit': '{limit}' {NUMBERS}")
      for limit in ("-1", "1.5", "9" * 20, "9" * 5000)),
    (["train", "--threads", "99999999999"], f"threads: '99999999999' {NUMBERS}, at most 1024."),
    (["optimize", "--threads", "99999999999"], f"threads: '99999999999' {NUMBERS}, at most 1024."),
    (["optimize", "--steps", "9" * 20], f"steps: '{'9' * 20}' is not allowed. Allowed: a whole number, 1 or more, at "),
    (["optimize", "--tv-weight", "1e999"], "tv_weight: '1e999' is not allowed. Allowed: a number, 0 or more."),
    (["data"], "Missing argument 'NAME|FOLDER|SHARDS'"),
], ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "")
def test_a_wrong_command_line_is_refused_in_one_line(
        words: list[str], beginning: str, inversion: Command, workplace: Path) -> None:
    assert beginning in inversion(*words).refused()


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["doctor", "-h"], ["--version"], []], ids=" ".join)
def test_asking_for_help_is_no_error(words: list[str], inversion: Command) -> None:
    outcome = inversion(*words)
    assert outcome.code == 0
    assert "inversion" in outcome.out
    assert outcome.err == ""


def test_help_of_train_names_every_parameter_with_its_default(inversion: Command) -> None:
    words = " ".join(inversion("train", "--help").out.split())
    for option in ("--encoder", "--decoder-options", "--lpips-weights", "--tracking-uri", "--resume"):
        assert f" {option} " in words
    assert "[default: 0.0001]" in words
    assert "image, published" in words or "published: against" in words


def test_a_broken_photograph_is_named_and_nothing_is_tracked(
        train: Command, all_runs: Runs, photo_folder: Path, workplace: Path) -> None:

    shutil.copytree(photo_folder, workplace / "photos")
    (workplace / "photos" / "train" / "train1.png").write_bytes(b"\x89PNG no more")
    assert "train1.png" in train(data=workplace / "photos").refused()
    assert all_runs() == []
