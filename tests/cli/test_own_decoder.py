"""A decoder in a file of the user's own, from training to every command that uses the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.config.document import config_of
from inversion.models import part_files
from inversion.runs.prepare import prepare
from tests.own_code import forget, interruption, require_trust_everywhere

CODE = '''
"""A decoder of a test."""
from torch import nn


class Mine(nn.Module):
    def __init__(self, features, image_size, width: int = 4):
        super().__init__()
        self.size = image_size
        self.net = nn.Sequential(nn.Conv2d(features.channels, width, 1), nn.ReLU(), nn.Conv2d(width, 3, 1))

    def forward(self, features):
        return nn.functional.interpolate(self.net(features), size=(self.size, self.size)).float().sigmoid()
'''


@pytest.fixture
def mine(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``mine.py`` in the workplace, with an empty data folder."""
    monkeypatch.setenv("INVERSION_DATA", str(workplace / "data"))
    path = workplace / "mine.py"
    path.write_text(CODE)
    return path


def test_a_run_has_its_code_and_a_changed_file_is_another_run(
    mine: Path, train: Callable[..., Any], all_runs: Callable[[], list[Run]],
) -> None:
    first = train(decoder="mine.py:Mine", decoder_options="width=5")
    assert first.code == 0, first.err
    run, = all_runs()
    name = run.data.params["decoder"]
    assert name.startswith("mine.py:Mine@")
    assert run.info.run_name == f"vgg16:block1+Mine@{name[-12:-4]}"
    path = MlflowClient().download_artifacts(run.info.run_id, f"code/{name[-12:]}/mine.py")
    assert Path(path).read_text() == CODE
    assert run.data.metrics["decoder_parameters"] == 64 * 5 + 5 + 5 * 3 + 3

    config = config_of(json.loads(run.data.tags["inversion.config"]), "the run")
    digest = run.data.tags["inversion.digest"]
    assert prepare(config.model_copy(update={"decoder": "mine.py:Mine"})).digest == digest
    mine.write_text(CODE + "# changed\n")
    assert prepare(config.model_copy(update={"decoder": "mine.py:Mine"})).digest != digest


def test_wherever_the_model_is_used_its_code_comes_with_it(
    mine: Path, train: Callable[..., Any], inversion: Callable[..., Any], all_runs: Callable[[], list[Run]],
    photo_folder: Path,
) -> None:
    assert train(decoder="mine.py:Mine", vgg_weights="off", precision="fp32").code == 0
    run_id = all_runs()[0].info.run_id
    picture = next((photo_folder / "test").iterdir())
    mine.unlink()  # this user has used it before
    part_files._known.clear()
    assert inversion("reconstruct", run_id, str(picture), "--output", "out").code == 0

    forget(mine.parent, "mine.py")
    require_trust_everywhere(inversion, run_id, picture, "mine.py:Mine@")


def test_an_interrupted_run_is_resumed_with_the_code_that_it_began_with(
    mine: Path, train: Callable[..., Any], inversion: Callable[..., Any], all_runs: Callable[[], list[Run]],
) -> None:
    with interruption():
        assert train(decoder="mine.py:Mine", vgg_weights="off").code == 130
    run, = all_runs()
    forget(mine.parent, "mine.py")
    mine.write_text(CODE.replace("class Mine", "class Mine2"))
    assert "needs the code of mine.py:Mine@" in inversion("train", "--resume", run.info.run_id).refused()
    outcome = inversion("train", "--resume", run.info.run_id, "--trust-code")
    assert outcome.code == 0, outcome.err
    assert [run.info.status for run in all_runs()] == ["FINISHED"]


@pytest.mark.parametrize(("change", "said"), [
    (("Mine(nn.Module)", "Mine"), "the class is not a torch.nn.Module"),
    (("import nn", "import nnn"), "mine.py:3: ImportError: cannot import name 'nnn'"),
    (("self.size, self.size", "8, 8"), "it gives (2, 3, 8, 8), and not images (2, 3, 32, 32)"),
])
def test_what_is_wrong_in_the_file_is_told_before_a_run_is_made(
    mine: Path, train: Callable[..., Any], all_runs: Callable[[], list[Run]], change: tuple[str, str], said: str,
) -> None:
    mine.write_text(CODE.replace(*change))
    assert said in train(decoder="mine.py:Mine").refused()
    assert not all_runs()


def test_trust_is_for_the_code_of_a_run(train: Callable[..., Any]) -> None:
    assert "--trust-code is for the code of a run" in train("--trust-code").refused()
