"""Several layers of one encoder, and parts of layers, through the commands: one pass, names, and every later use."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from torch import Tensor, nn

from inversion.models.encoders import _timm

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]

FULL = "timm/test_vit.r160_in1k"


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the number of taps of every pass through an encoder of timm."""
    found: list[int] = []
    run_trunk = _timm.run_trunk

    def counting(trunk: nn.Module, images: Tensor, taps: Sequence[_timm.Tap]) -> list[Tensor]:
        found.append(len(taps))
        return run_trunk(trunk, images, taps)

    monkeypatch.setattr(_timm, "run_trunk", counting)
    return found


def test_a_run_of_several_layers_passes_through_the_encoder_as_often_as_one_of_a_single_layer(
        passes: list[int], train: Command, inversion: Command, all_runs: Runs, picture: Callable[..., Path]) -> None:
    assert train(encoder="timm/test_vit:block3").code == 0
    single = len(passes)
    passes.clear()
    outcome = train(encoder="timm/test_vit:block1+block3-cls+block2-k")
    assert outcome.code == 0, outcome.err
    assert passes == [3] * single
    run = next(run for run in all_runs() if "+block3-cls" in str(run.info.run_name))
    name = f"{FULL}:block1+block3-cls+block2-k+weighted+transposed_conv"
    assert run.info.run_name == name
    assert run.data.metrics["encoder_passes"] == 1
    assert run.data.metrics["feature_channels"] == 3 * 64
    assert (run.data.params["network"], run.data.params["layer"]) == (FULL, "block1+block3-cls+block2-k")
    document = json.loads((Path(run.info.artifact_uri) / "config.json").read_text())
    assert document["parameters"]["encoder"] == f"{FULL}:block1+{FULL}:block3-cls+{FULL}:block2-k"
    passes.clear()
    assert inversion("reconstruct", name, str(picture("cat.png")), "--output", "out").code == 0
    assert set(passes) == {3}
    done = inversion("evaluate", run.info.run_id)
    assert done.code == 0
    assert "exactly as logged" in done.out
    passes.clear()
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    images = model.predict(np.random.default_rng(0).random((2, 3, 32, 32), np.float32))
    assert np.asarray(images).shape == (2, 3, 32, 32)
    assert passes == [3]


def test_both_ways_to_write_layers_are_one_run(train: Command, all_runs: Runs) -> None:
    for words in ({"encoder": "vgg16:block1+vgg16:block3"}, {"encoder": "vgg16:block1+block3"},
                  {"encoder": "vgg16", "layer": "block1+block3"}):
        assert train(**words).code == 0
    assert len({run.data.tags["inversion.digest"] for run in all_runs()}) == 1
    assert {run.info.run_name for run in all_runs()} == {"vgg16:block1+block3+weighted+transposed_conv"}


def test_a_part_that_there_is_not_is_refused_before_anything_is_done(train: Command, all_runs: Runs) -> None:
    assert "the model has no register tokens" in train(encoder="timm/test_vit:block2-registers").refused()
    assert "Did you mean 'block3'?" in train(encoder="vgg16:block1+blok3").refused()
    assert all_runs() == []
