"""``inversion-report`` as it is typed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from inversion.cli.app import run_command
from inversion.cli.report import cli
from tests.report.conftest import MadeStudy


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``report("made", "--output", "folder")``."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        return Outcome(run_command(cli, [str(word) for word in words]), *capsys.readouterr())

    return run


def fill(made: Any, scores: Callable[..., Any]) -> None:
    """Two layers, two decoders, an ensemble, a failure and a run that never began."""
    for encoder, mean in (("vgg16:block1", 25), ("vgg16:block3", 20), ("ensemble", 25.5)):
        for decoder, gain in (("transposed_conv", 0.0), ("attention", -1.0)):
            made.add(scores(mean + gain), encoder=encoder, decoder=decoder, pictures=True)
    made.add(None, status="FAILED", encoder="vgg16:block1", decoder="wavelet",
             tags={"inversion.failure": "oom", "inversion.failure_message": "one image does not fit <b>here</b>"})
    made.plan("vgg16:block3+wavelet")
    made.finish()


def test_it_writes_the_page_and_every_table_and_logs_them(
    report: Callable[..., Outcome], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    fill(made, scores)
    folder = tmp_path / "the report"
    outcome = report("made", "--output", folder)
    assert outcome.code == 0, outcome.err
    assert "ensemble+weighted+transposed_conv is first with 25.50 dB" in outcome.out
    assert outcome.out.splitlines()[-1] == f"report: {folder}/index.html"
    keys = {path.stem for path in (folder / "tables").iterdir()}
    assert {"leaderboard", "top-single", "ensembles", "decoders", "depth", "ensembles-against-best-single",
            "resolution", "cost-per-db", "differences", "published", "findings", "failures", "missing"} <= keys
    for key in keys:
        left = pd.read_csv(folder / "tables" / f"{key}.csv")
        right = pd.read_parquet(folder / "tables" / f"{key}.parquet")
        assert list(left.columns) == list(right.columns)
        assert len(left) == len(right) > 0
    board = pd.read_csv(folder / "tables" / "leaderboard.csv")
    assert board["psnr"].tolist() == sorted(board["psnr"], reverse=True)
    logged = {item.path for item in made.client.list_artifacts(made.parent, "report")}
    assert logged == {f"report/{name}" for name in ("index.html", "report.md", "methods.md", "methods.bib", "tables")}
    there = made.client.download_artifacts(made.parent, "report/index.html", str(tmp_path))
    assert Path(there).read_text() == (folder / "index.html").read_text()
    note = made.client.get_run(made.parent).data.tags["mlflow.note.content"]
    assert note.startswith(f"Report: [report/index.html](#/experiments/{made.experiment_id}/runs/{made.parent}/")


def test_a_study_in_another_experiment_is_found_unless_one_is_named(
    report: Callable[..., Outcome], scores: Callable[..., Any], tmp_path: Path, workplace: Path,
) -> None:
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    made = MadeStudy(client, "made", tmp_path, "Default")  # as `mlflow run . -e sweep` without --experiment-name
    fill(made, scores)
    outcome = report("made", "--output", tmp_path / "report")
    assert outcome.code == 0, outcome.err
    assert {item.path for item in made.client.list_artifacts(made.parent, "report")} >= {"report/index.html"}
    made.client.create_experiment("empty")
    outcome = report("made", "--output", tmp_path / "none", "--experiment", "empty")
    assert (outcome.code, "experiment empty in " in outcome.err) == (2, True)


def test_the_run_that_mlflow_run_made_for_it_goes_below_the_study(
    report: Callable[..., Outcome], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = make_study()
    fill(made, scores)
    adopted = made.client.create_run(made.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", adopted)
    assert report("made", "--output", tmp_path).code == 0
    run = made.client.get_run(adopted)
    assert run.info.run_name == "made (report)"
    assert (run.data.tags["inversion.kind"], run.data.tags["mlflow.parentRunId"]) == ("report", made.parent)
    assert report("made", "--output", tmp_path).code == 0  # and is not taken for one of its runs
    assert len(pd.read_csv(tmp_path / "tables" / "leaderboard.csv")) == 6


def test_the_page_needs_no_network_and_escapes_what_runs_say(
    report: Callable[..., Outcome], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    fill(make_study(), scores)
    assert report("made", "--output", tmp_path).code == 0
    text = (tmp_path / "index.html").read_text()
    assert "one image does not fit &lt;b&gt;here&lt;/b&gt;" in text
    before_script = text[:text.index("<script>")]
    for attribute in ('src="http', 'href="http', "@import", "url(http"):
        assert attribute not in before_script
    assert "vgg16:block3+wavelet" in text
    assert "c0ffee" in text
    assert "study: made" in text


def test_a_study_without_a_finished_run_is_reported_as_that(
    report: Callable[..., Outcome], make_study: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    made.add(None, status="FAILED", tags={"inversion.failure": "data"})
    made.plan("vgg16:block1+wavelet")
    made.finish()
    outcome = report("made", "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "No run of this study is finished yet: 1 of 2 runs have started." in outcome.out
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {"failures", "missing"}


def test_one_run_without_pictures_is_enough(
    report: Callable[..., Outcome], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    made.add(scores(25))
    made.finish()
    assert report("made", "--output", tmp_path).code == 0
    assert "What it looks like" not in (tmp_path / "index.html").read_text()


def test_several_seeds_are_said_to_be_that(
    report: Callable[..., Outcome], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    for seed in (0, 1, 2):
        made.add(scores(25, seed=seed), seed=seed)
        made.add(scores(24, seed=seed), seed=seed, decoder="wavelet")
    made.finish()
    outcome = report("made", "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    assert "One seed was run" not in outcome.out
    assert pd.read_csv(tmp_path / "tables" / "leaderboard.csv")["seeds"].tolist() == [3, 3]


@pytest.mark.parametrize(("words", "message"), [
    (["mad", "--output", "r"], "error: experiment inversion in sqlite:///"),
    (["made"], "error: Missing option '--output'"),
    (["made", "--output", "r", "--memory-budget", "-5"], "error: Invalid value for '--memory-budget'"),
    (["made", "--output", "r", "--memory-budget", "nan"], "error: Invalid value for '--memory-budget'"),
    (["made", "--output", "r", "--memory-budget", "1e999"], "error: Invalid value for '--memory-budget'"),
    (["made", "--output", "file/below"], "error: --output file/below: Not a directory"),
])
def test_a_wrong_request_is_one_line(
    words: list[str], message: str, report: Callable[..., Outcome], make_study: Callable[..., Any], workplace: Path
) -> None:
    make_study().finish()
    (workplace / "file").write_text("")
    outcome = report(*words)
    assert outcome.code == 2
    assert outcome.err.startswith(message)
    assert outcome.err.count("\n") == 1


def test_the_same_study_gives_the_same_report(
    report: Callable[..., Outcome], make_study: Callable[..., Any], scores: Callable[..., Any], tmp_path: Path
) -> None:
    fill(make_study(), scores)
    assert report("made", "--output", tmp_path / "a").code == 0
    assert report("made", "--output", tmp_path / "b").code == 0
    assert (tmp_path / "a" / "index.html").read_text() == (tmp_path / "b" / "index.html").read_text()


@pytest.mark.acceptance
@pytest.mark.alone
def test_five_hundred_runs_take_less_than_a_minute(
    report: Callable[..., Outcome], make_study: Callable[..., Any], tmp_path: Path
) -> None:
    made = make_study()
    chance, images = np.random.default_rng(0), [f"{number}.png" for number in range(100)]
    for number in range(500):
        made.add(25 + chance.normal(0, 2, 100), images=images, pictures=number < 5, lr=1e-4 * (number + 1))
    made.finish()
    began = time.monotonic()
    outcome = report("made", "--output", tmp_path)
    took = time.monotonic() - began
    assert outcome.code == 0, outcome.err
    assert len(pd.read_csv(tmp_path / "tables" / "leaderboard.csv")) == 500
    assert took < 60  # 31 s on two cores of an EPYC: docs/log.md
