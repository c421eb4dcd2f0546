"""The report of a search: ranked by its objective on the validation images; of test scores, only the best trial's."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inversion.cli.app import run_command
from inversion.cli.report import cli
from inversion.objectives import Objective
from inversion.report.data.searching import Search, Trial

SPACE = "space: {decoder: [wavelet, attention, transposed_conv, linear], lr: {low: 1e-5, high: 1e-2, log: true}}\n"
TRIALS = [("wavelet", 0.00123456, 24.0, 30.0), ("attention", 0.0001, 26.0, 21.0), ("linear", 0.00987, 25.0, 35.0)]
"""Decoder, learning rate, validation and test PSNR: what is best on the validation images is worst on the others."""


def fill(made: Any, scores: Callable[..., Any], metric: str = "best/val_psnr", pictures: bool = False) -> Any:
    """A search of three finished trials, one that was pruned and one that failed."""
    made.client.log_text(made.parent, f"study: made\nsearch:\n  metric: {metric}\n  trials: 5\n  {SPACE}", "made.yaml")
    for number, (decoder, lr, validation, test) in enumerate(TRIALS):
        run_id = made.add(scores(test), decoder=decoder, lr=lr, pictures=pictures,
                          metrics={"best/val_psnr": validation, "best_epoch": 2.0, "epochs_run": 3.0})
        for epoch, loss in ((1, 9.0), (2, 50 - validation), (3, 1.0)):
            made.client.log_metric(run_id, "val/mse", loss, step=epoch)
        made.planned[-1]["trial"] = 2 * number  # the others were repeated after a crash
    made.add(None, status="KILLED", decoder="wavelet", lr=0.005, tags={
        "inversion.failure": "pruned", "inversion.failure_message": "pruned after epoch 1: not promising"})
    made.add(None, status="FAILED", decoder="wavelet", lr=0.006, tags={"inversion.failure": "oom"})
    for number, item in enumerate(made.planned[-2:]):
        item["trial"] = 7 + number
    return made


def report(made: Any, folder: Path) -> Path:
    assert run_command(cli, [made.finish(), "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
    make_study_in: Callable[..., Any], scores: Callable[..., Any],
) -> Path:
    """The report of a search, which several tests look at."""
    workplace, folder = tmp_path_factory.mktemp("workplace"), tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(workplace, patch)
        return report(fill(make_study_in(workplace, folder), scores, pictures=True), folder)


def cells(markdown: str, title: str) -> list[list[str]]:
    """The rows of a Markdown table under a title, with its headings first."""
    part = markdown[markdown.index(f"## {title}"):].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_trials_are_ranked_by_the_objective_with_every_searched_parameter(folder: Path) -> None:
    head, *rows = cells((folder / "report.md").read_text(), "Leaderboard of the search")
    assert head[:7] == ["rank", "trial", "best/val_psnr", "decoder", "lr", "state", "test PSNR (dB)"]
    assert [row[:6] for row in rows] == [
        ["**1**", "2", "26.00 dB", "attention", "0.000100", "finished"],
        ["2", "4", "25.00 dB", "linear", "0.00987", "finished"],
        ["3", "0", "24.00 dB", "wavelet", "0.00123", "finished"],
        ["–", "7", "–", "wavelet", "0.00500", "pruned"],
        ["–", "8", "–", "wavelet", "0.00600", "failed: oom"]]
    assert [row[6] for row in rows] == ["21.00", "", "", "", ""]


def test_no_test_score_but_that_of_the_best_trial_is_shown_anywhere(folder: Path) -> None:
    page, markdown = (folder / "index.html").read_text(), (folder / "report.md").read_text()
    page = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # plotly itself; the figures stay
    for text in (page, markdown, (folder / "tables" / "leaderboard.md").read_text()):
        assert not re.search(r"\b(30|35)\.00", text)
    assert "21.00" in page
    assert "21.00" in markdown
    exact = pd.read_parquet(folder / "tables" / "leaderboard.parquet").set_index("trial")
    assert exact.loc[[0, 2, 4], "test_psnr"].tolist() == pytest.approx([30.0, 21.0, 35.0])


def test_the_conclusion_names_the_best_trial_and_not_the_winner_by_test_psnr(folder: Path) -> None:
    markdown = (folder / "report.md").read_text()
    said = markdown.partition("## ")[0].splitlines()
    assert ("Trial 2 (decoder=attention, lr=0.000100) is the best of 3 finished trials by best/val_psnr (higher is "
            "better), with 26.00 dB; it is 1.00 dB ahead of the next, trial 4.") in said
    assert any(line.startswith("On the 12 test images, which the search did not see, it has 21.00 dB PSNR")
               for line in said)
    assert " won " not in markdown
    assert "best overall" not in markdown
    assert ("- best trial: trial 2 (decoder=attention, lr=0.000100): best/val_psnr 26.00 dB; test PSNR 21.00 dB"
            in markdown)
    assert "decoder=attention, lr=0.0001." in markdown  # the exact values
    for title in ("Which decoder?", "Published findings", "What a decibel costs", "The 10 best"):
        assert title not in markdown


def test_the_charts_show_the_objective_by_trial_and_against_each_parameter(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    charts = re.findall(r'<div class="chart (\w+)"', page)
    assert charts[:2] == ["search", "searched"]
    assert not {"leaderboard", "parameters", "compute", "time", "differences"} & set(charts)
    assert page.count('alt="difference"') == 5  # five images of the best trial alone


def test_a_metric_by_epoch_counts_at_the_best_epoch_and_its_direction_is_respected(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    folder = report(fill(make_study(), scores, metric="val/mse"), tmp_path / "report")
    markdown = (folder / "report.md").read_text()
    _, *rows = cells(markdown, "Leaderboard of the search")
    assert [row[1:3] for row in rows[:3]] == [["2", "24"], ["4", "25"], ["0", "26"]]
    assert "by val/mse (lower is better), with 24; it is 1 ahead of the next, trial 4." in markdown


def test_a_best_value_at_the_border_of_its_range_is_told(
    make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = fill(make_study(), scores)
    made.add(scores(20.0), decoder="linear", lr=0.0095, metrics={"best/val_psnr": 30.0})
    report(made, tmp_path / "report")
    assert ("Its value is at the border of the range of lr 0.00950, searched from 1.00e-05 to 0.0100: a better one may "
            "be beyond it.") in capsys.readouterr().out


def test_a_search_without_a_finished_trial_says_so(
    make_study: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_study()
    made.client.log_text(made.parent, f"study: made\nsearch:\n  trials: 5\n  {SPACE}", "made.yaml")
    made.add(None, status="FAILED", tags={"inversion.failure": "oom"})
    folder = report(made, tmp_path / "report")
    assert "No trial of this search is finished yet: 1 has started." in capsys.readouterr().out
    _, row = cells((folder / "report.md").read_text(), "Leaderboard of the search")
    assert (row[0], row[5]) == ("–", "failed: oom")


@pytest.mark.parametrize(("direction", "best", "steps"), [
    ("maximize", 3, [(0, 1.0), (1, 1.0), (3, 2.0)]), ("minimize", 1, [(0, 1.0), (1, 0.5), (3, 0.5)])])
def test_best_and_best_so_far_follow_the_direction(direction: Any, best: int, steps: list[tuple[int, float]]) -> None:
    trials = [Trial(0, "a", "finished", 1.0, {}), Trial(1, "b", "finished", 0.5, {}), Trial(2, "c", "pruned", 9.0, {}),
              Trial(3, "d", "finished", 2.0, {}), Trial(4, "e", "finished", float("nan"), {})]
    search = Search(Objective("val/loss", direction), (), trials)
    assert search.best is trials[best]
    assert search.best_so_far() == steps
    assert [trial.number for trial in search.unranked] == [2, 4]
