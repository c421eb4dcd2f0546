"""A report over a study whose artifacts are damaged: what can be read is ranked, and the rest is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.report.data.board import make_boards
from inversion.report.data.collect import collect
from inversion.report.data.study import StudyData
from inversion.report.render.pictures import scenes
from inversion.report.tables.overview import failures
from inversion.tracking.connection import connect

Damage = Callable[[Path], object]


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    return lambda path: change(pd.read_parquet(path)).to_parquet(path, index=False)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


SCORES: dict[str, tuple[Damage, str]] = {
    "missing": (Path.unlink, "has no artifact metrics/test_per_image.parquet"),
    "cut": (cut, "metrics/test_per_image.parquet of run"),
    "without a column": (table(lambda scores: scores.drop(columns="ssim")), "has no column ssim"),
    "texts": (table(lambda scores: scores.assign(psnr="high")), "its column psnr has the type"),
    "names that are numbers": (table(lambda scores: scores.assign(image=range(len(scores)))), "its column image has"),
    "an empty cell": (table(lambda scores: scores.assign(psnr=scores["psnr"].mask(scores.index == 0))), "empty cells"),
    "twice the same": (table(lambda scores: scores.assign(image="a")), "it has an image twice"),
    "no rows": (table(lambda scores: scores.iloc[:0]), "it has no rows"),
    "rows too few": (table(lambda scores: scores.iloc[:5]), "it has 5 images, and the run was scored on 12"),
    "a score that is not finite": (table(lambda scores: scores.assign(ssim=float("inf"))), "not finite"),
}


@pytest.fixture
def damaged(make_study: Callable[..., Any], scores: Callable[..., Any]) -> Callable[..., StudyData]:
    """``damaged(artifact, damage)``: a study of two runs, of which an artifact of the better is damaged."""

    def make(artifact: str, damage: Damage, *, of_parent: bool = False) -> StudyData:
        made = make_study()
        made.add(scores(25), decoder="wavelet", pictures=True)
        run_id = made.add(scores(30), decoder="attention", pictures=True)
        name = made.finish()
        run = made.client.get_run(made.parent if of_parent else run_id)
        damage(Path(run.info.artifact_uri) / artifact)
        return collect(connect(), name)

    return make


@pytest.mark.parametrize("name", SCORES)
def test_scores_that_cannot_be_used_are_told_and_the_others_ranked(
    name: str, damaged: Callable[..., StudyData]
) -> None:
    change, says = SCORES[name]
    data = damaged("metrics/test_per_image.parquet", change)
    board, = make_boards(data.runs)
    assert list(board.by_label) == ["vgg16:block1+wavelet"]
    row, = failures(data).rows
    assert row["run"] == "vgg16:block1+attention"
    assert row["cause"] == "scores"
    assert says in str(row["message"])


def test_a_study_whose_results_cannot_be_read_is_not_called_unfinished(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_study()
    run_id = made.add(scores(25), decoder="wavelet")
    made.add(None, status="FAILED", decoder="attention", tags={"inversion.failure": "data"})
    name = made.finish()
    cut(Path(made.client.get_run(run_id).info.artifact_uri) / "metrics/test_per_image.parquet")
    assert run_command(cli, [name, "--output", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "1 of 2 runs are finished, but the results of none can be read: metrics/test_per_image.parquet of" in told


@pytest.mark.parametrize("damage", [
    Path.unlink, cut, table(lambda files: files.drop(columns="original")), table(lambda files: files.assign(image="a")),
    table(lambda files: files.assign(reconstruction="text")),
    table(lambda files: files.assign(original=[file[:100] for file in files["original"]])),
], ids=["missing", "cut", "without a column", "twice the same", "texts", "pictures that are cut"])
def test_pictures_that_cannot_be_shown_are_left_out(damage: Damage, damaged: Callable[..., StudyData]) -> None:
    board, = make_boards(damaged("reconstructions/test.parquet", damage).runs)
    assert board.winner.label == "vgg16:block1+attention"
    assert scenes(connect(), board) == []


@pytest.mark.parametrize("content", ["", "{", "{}", "[1, null, {}, []]", "[" * 100_000, '[{"run": "a", "digest": 3}]'])
@pytest.mark.parametrize("name", ["runs.json", "settings.json"])
def test_lists_of_the_study_that_are_damaged_count_as_empty(
    name: str, content: str, damaged: Callable[..., StudyData]
) -> None:
    data = damaged(name, lambda path: path.write_text(content), of_parent=True)
    assert (data.missing, data.settings) == ([], [])


def test_the_page_of_a_study_with_much_that_is_damaged(damaged: Callable[..., StudyData], tmp_path: Path) -> None:
    def damage(file: Path) -> None:
        (file.parent / "made.yaml").write_bytes(b"study: \xff\xfe")
        (file.parent / "runs.json").write_text("[1]")
        file.write_text("{")

    damaged("settings.json", damage, of_parent=True)
    assert run_command(cli, ["made", "--output", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "vgg16:block1+attention is first with 30.00 dB" in text
    assert "study: " in text
