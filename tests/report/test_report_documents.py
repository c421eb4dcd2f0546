"""A report over runs of other versions, and over configurations that are cut, damaged or gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.config.document import VERSION
from inversion.report import leaderboard
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.tables.overview import failures
from inversion.tracking.connection import connect

Change = Callable[[dict[str, Any]], object]
FILES = Path(__file__).parents[1] / "config" / "documents"


@pytest.fixture
def with_document(make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path) -> Callable[..., int]:
    """``with_document(change)``: exit code of a report over two runs, of which the better one's document is changed."""

    def make(change: Change) -> int:
        made = make_study()
        made.add(scores(25), decoder="wavelet", pictures=True)
        run_id = made.add(scores(30), decoder="attention", pictures=True)
        document = json.loads(made.client.get_run(run_id).data.tags["inversion.config"])
        change(document)
        made.client.set_tag(run_id, "inversion.config", json.dumps(document))
        made.finish()
        return run_command(cli, ["made", "--output", str(tmp_path / "report")])

    return make


def newer(document: dict[str, Any]) -> None:
    document |= {"version": VERSION + 1, "unheard": ["of"]}
    del document["parameters"]["strict"], document["parameters"]["min_lr"], document["identity"]["parameters"]["min_lr"]
    document["parameters"]["warm_up"] = document["identity"]["parameters"]["warm_up"] = 3


CHANGES: dict[str, Change] = {
    "a parameter that is gone": lambda document: document["parameters"].update(gone=1),
    "one that decides numbers": lambda document: document["identity"]["parameters"].update(gone=1),
    "a parameter that came later": lambda document: document["parameters"].pop("patience"),
    "a decoder that is gone": lambda document: document["parameters"].update(decoder="gone"),
    "an encoder that is gone": lambda document: document["parameters"].update(encoder="gone:block1"),
    "a timm model that is not here": lambda document: document["parameters"].update(encoder="timm/gone_net:block1"),
    "a layer that is gone": lambda document: document["parameters"].update(encoder="vgg16:block99"),
    "a value that is not allowed": lambda document: document["parameters"].update(precision="fp8", image_size=31),
    "a newer version": newer,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_of_another_version_is_ranked_in_the_report(
    name: str, with_document: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert with_document(CHANGES[name]) == 0, capsys.readouterr().err
    data = collect(connect(), "made")
    ranked = [item.psnr.mean for board in make_boards(data.runs) for item in board.configurations]
    assert sorted(map(round, ranked)) == [25, 30]
    rows = leaderboard.leaderboard([run.run for run in data.runs])
    assert sorted(round(row.values["test/psnr"]) for row in rows) == [25, 30]
    told = "1 run made by a newer version of inversion" in (tmp_path / "report" / "report.md").read_text()
    assert told == (name == "a newer version")


@pytest.mark.parametrize("change", [
    lambda document: document.pop("identity"), lambda document: document.update(parameters=None),
    lambda document: document.update(version="x"), lambda document: document.update(version=VERSION + 1, data=None),
], ids=["no identity", "no parameters", "no version", "newer, without what is needed"])
def test_a_configuration_that_cannot_be_read_is_told_and_stops_nothing(
    change: Change, with_document: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert with_document(change) == 0
    data = collect(connect(), "made")
    row, = failures(data).rows
    assert row["cause"] == "configuration"
    assert f"the configuration of run {row['run_id']} cannot be read: its tag inversion.config has" in row["message"]
    assert "its artifact config.json is missing" in row["message"]
    assert "vgg16:block1+wavelet has 25.00 dB" in (tmp_path / "report" / "report.md").read_text()
    only, = leaderboard.leaderboard([run.run for run in data.runs])
    assert only.values["run"] == "vgg16:block1+wavelet"
    assert "left out of the leaderboard" in caplog.text


@pytest.mark.parametrize("tag", [None, "", '{"digest": "cut', "[]"], ids=["missing", "empty", "cut", "a list"])
def test_a_tag_that_is_cut_or_gone_is_made_up_for_by_config_json(
    tag: str | None, make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    run_id = made.add(scores(30), decoder="attention")
    made.client.log_text(run_id, made.client.get_run(run_id).data.tags["inversion.config"], "config.json")
    if tag is None:
        made.client.delete_tag(run_id, "inversion.config")
    else:
        made.client.set_tag(run_id, "inversion.config", tag)
    data = collect(connect(), made.finish())
    board, = make_boards(data.runs)
    assert board.winner.label == "vgg16:block1+attention"
    row, = leaderboard.leaderboard([run.run for run in data.runs])
    assert row.values["run"] == "vgg16:block1+attention"


def test_runs_of_every_version_are_one_report(
    make_study: Callable[..., Any], scores: Callable[..., Any]
) -> None:
    made = make_study()
    files = sorted(FILES.glob("v*run.json"))
    for seed, file in enumerate(files):
        run_id = made.add(scores(30)[:1], seed=seed, images=["test/0.png"])
        MlflowClient().set_tag(run_id, "inversion.config", file.read_text())
    data = collect(connect(), made.finish())
    assert len(data.runs) == len(files) == 7
    assert not failures(data).rows
    assert {board.group[-1] for board in make_boards(data.runs)} == {"1", "2"}  # the recipe
