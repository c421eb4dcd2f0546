"""Parts in files of the user's own, from training to every command that uses the run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

import inversion as inv
from inversion.config.document import config_of
from inversion.models import part_files
from inversion.runs.prepare import prepare
from tests.own_code import forget, interruption, require_trust_everywhere

ENCODER = '''
"""An encoder of a test."""
from torch import nn


class Mine(nn.Module):
    image_mean = (0.5, 0.5, 0.5)
    image_std = (0.25, 0.25, 0.25)

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.layer2 = nn.Conv2d(8, 4, 3, 2, 1)
        self.head = nn.Linear(4, 10)
        self.tied = self.head  # a model's file holds each tensor once

    def forward(self, images):
        return self.head(self.layer2(self.layer1(images)).mean((2, 3)))
'''

FUSION = '''
"""A fusion of a test."""
import torch
from torch import nn


class Stack(nn.Module):
    def __init__(self, shapes, width: int = 6):
        super().__init__()
        self.size = (shapes[0].height, shapes[0].width)
        self.mix = nn.Conv2d(sum(shape.channels for shape in shapes), width, 1)

    def forward(self, maps):
        return self.mix(torch.cat([nn.functional.interpolate(each, size=self.size) for each in maps], 1))
'''

MEASURE = """
def measure(images, targets):
    return (images - targets).abs().mean((1, 2, 3))
measure.higher_is_better = False
"""

TERM = """
def term(images, targets):
    return (images - targets).abs().mean()
"""

PARTS = {"metrics": "measure.py:measure", "loss": "term.py:term", "loss_weight": "0.5",
         "encoder": "mine.py:Mine:layer1/bits=4+vgg16:block1", "fusion": "stack.py:Stack",
         "fusion_options": "width=5",
         "vgg_weights": "off"}


@pytest.fixture
def place(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workplace with the files of the parts, and an empty data folder."""
    monkeypatch.setenv("INVERSION_DATA", str(workplace / "data"))
    (workplace / "mine.py").write_text(ENCODER)
    (workplace / "stack.py").write_text(FUSION)
    (workplace / "measure.py").write_text(MEASURE)
    (workplace / "term.py").write_text(TERM)
    return workplace


def test_a_run_has_the_code_of_its_parts_and_changed_files_are_another_run(
    place: Path, train: Callable[..., Any], all_runs: Callable[[], list[Run]],
) -> None:
    outcome = train(**PARTS)
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    params = run.data.params
    encoder, digest = params["network"].split("+")[0], part_files.PartFile("mine.py", ENCODER.encode()).digest
    assert encoder == f"mine.py:Mine@{digest}"
    assert params["network_layer"] == "layer1+block1"
    assert params["fusion"] == f"stack.py:Stack@{part_files.PartFile('stack.py', FUSION.encode()).digest}"
    assert run.info.run_name.startswith(f"Mine@{digest[:8]}:layer1/bits=4+vgg16:block1+Stack@")
    for name in (encoder, params["fusion"], params["metrics"], params["loss"]):
        path, _, digest = name.partition(":")[0], *name.rpartition("@")[1:]
        assert MlflowClient().download_artifacts(run.info.run_id, f"code/{digest}/{path}")
    found = run.data.metrics
    assert found["feature_channels"] == 8 + 64
    assert found["test/measure"] > found["test/measure_std"] > 0
    assert found["val/loss"] == pytest.approx(0.5 * found["val/mse"] + 0.5 * found["val/term"])
    assert found["train/loss"] == pytest.approx(0.5 * found["train/mse"] + 0.5 * found["train/term"], rel=1e-3)

    config = config_of(json.loads(run.data.tags["inversion.config"]), "the run")
    digest = run.data.tags["inversion.digest"]
    assert json.loads(run.data.tags["inversion.config"])["metrics"] == {"measure": {"better": "lower"}}
    asked = {name: PARTS[name] for name in ("encoder", "fusion", "metrics", "loss")}
    assert prepare(config.model_copy(update=asked)).digest == digest
    for file in ("mine.py", "measure.py", "term.py"):
        text = (place / file).read_text()
        (place / file).write_text(text + "# changed\n")
        assert prepare(config.model_copy(update=asked)).digest != digest
        (place / file).write_text(text)


def test_wherever_the_model_is_used_the_code_of_its_parts_comes_with_it(
    place: Path, train: Callable[..., Any], inversion: Callable[..., Any], all_runs: Callable[[], list[Run]],
    photo_folder: Path,
) -> None:
    assert train(**PARTS, precision="fp32").code == 0
    run_id = all_runs()[0].info.run_id
    forget(place, "mine.py", "stack.py", "measure.py", "term.py")
    require_trust_everywhere(inversion, run_id, next((photo_folder / "test").iterdir()), "")


def test_an_interrupted_run_is_resumed_with_the_parts_that_it_began_with(
    place: Path, train: Callable[..., Any], inversion: Callable[..., Any], all_runs: Callable[[], list[Run]],
) -> None:
    with interruption():
        assert train(**PARTS).code == 130
    run, = all_runs()
    forget(place, "mine.py", "stack.py", "measure.py", "term.py")
    assert "needs the code of " in inversion("train", "--resume", run.info.run_id).refused()
    outcome = inversion("train", "--resume", run.info.run_id, "--trust-code")
    assert outcome.code == 0, outcome.err
    assert [run.info.status for run in all_runs()] == ["FINISHED"]


def test_weights_of_ones_own_are_a_file_or_what_the_function_makes(
    place: Path, train: Callable[..., Any], all_runs: Callable[[], list[Run]],
) -> None:
    chance = torch.random.get_rng_state()
    for number, weights in enumerate(("auto", "own.pth", "mine.py:Mine=own.pth,vgg16=random")):
        if number == 1:
            encoder = inv.load(all_runs()[0].info.run_id).frozen[0]
            torch.save({"state_dict": encoder.trunk_state()}, "own.pth")
        outcome = train(encoder="mine.py:Mine:layer1", weights=weights, vgg_weights="off")
        assert outcome.code == 0, outcome.err
    runs = sorted(all_runs(), key=lambda run: int(run.info.start_time))
    identities = [next(iter(json.loads(run.data.tags["inversion.config"])["identity"]["weights"].values()))
                  for run in runs]
    assert identities[0].startswith("own:")
    assert identities[1] == identities[2]
    assert identities[1].startswith("sha256:")
    assert len({run.data.metrics["test/psnr"] for run in runs}) == 1  # the file has the same weights
    assert torch.equal(chance, torch.random.get_rng_state())


@pytest.mark.parametrize(("change", "values", "said"), [
    (("Mine(nn.Module)", "Mine"), {}, "encoder mine.py:Mine@"),
    (("Mine(nn.Module)", "Mine"), {}, "the class is not a torch.nn.Module"),
    (("import nn", "import nnn"), {}, "mine.py:3: ImportError: cannot import name 'nnn'"),
    (("(self)", "(self, width)"), {}, "it is called with (), and takes (width): missing a required argument"),
    (("", ""), {"encoder": "mine.py:Mine:layer3"}, "has no layer 'layer3'. Known: layer1, layer2, head, output"),
    (("", ""), {"encoder": "mine.py:Mine"}, "it gives (2, 10), and not a map (B, C, h, w) of B = 2. inversion list"),
    (("", ""), {"encoder": "mine.py:Mine:head/pool=2"}, "it gives (2, 10), and not a map"),
    (("", ""), {"encoder": "mine.py:Mine:layer1/pool=64"}, "pool"),
    (("", ""), {"encoder": "mine.py:Nine:layer1"}, "mine.py has no encoder 'Nine'. Known: Mine. Did you mean 'Mine'?"),
    (("", ""), {"encoder": "mine.py"}, "'mine.py' is not of the form FILE.py:NAME"),
    (("", ""), {"encoder": "elsewhere/mine.py:Mine:layer1"}, "no such file or folder: elsewhere"),
    (("", ""), {"encoder": "mine.py:Mine:layer2..4"}, "is a range of layers, and one layer is needed here"),
])
def test_what_is_wrong_in_an_encoder_is_told_before_a_run_is_made(
    place: Path, train: Callable[..., Any], all_runs: Callable[[], list[Run]], change: tuple[str, str],
    values: dict[str, str], said: str,
) -> None:
    (place / "mine.py").write_text(ENCODER.replace(*change))
    assert said in train(**{"encoder": "mine.py:Mine:layer1", **values}).refused()
    assert not all_runs()


@pytest.mark.parametrize(("change", "said"), [
    (("Stack(nn.Module)", "Stack"), "the class is not a torch.nn.Module"),
    (("self.mix(torch.cat", "list(torch.cat"), "gives an object of type list, and not a map"),
    (("each in maps]", "each in maps[:1]]"), "stack.py:14: RuntimeError: "),
    (("width: int", "breadth: int"), "stack.py:11: NameError"),
])
def test_what_is_wrong_in_a_fusion_is_told_before_a_run_is_made(
    place: Path, train: Callable[..., Any], all_runs: Callable[[], list[Run]], change: tuple[str, str], said: str,
) -> None:
    (place / "stack.py").write_text(FUSION.replace(*change))
    assert said in train(encoder="resnet34:layer1+vgg16:block1", fusion="stack.py:Stack").refused()
    assert not all_runs()


def test_the_parts_are_listed_with_their_layers_and_options(place: Path, inversion: Callable[..., Any]) -> None:
    shown = inversion("list", "mine.py:Mine", "--image-size", "64").out
    assert "An encoder of a test." in shown
    assert re.search(r":layer1 +│ 8×32×32", shown)
    assert "head" not in shown
    assert "mean (0.5, 0.5, 0.5)" in shown
    assert "8×16×16" in inversion("list", "mine.py:Mine:layer1/pool=2", "--image-size", "64").out
    shown = inversion("list", "stack.py:Stack").out
    assert "Fusion stack.py:Stack: A fusion of a test." in shown
    assert "width" in shown
