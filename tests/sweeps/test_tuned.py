"""A tuned study from its spec to its report: what wins by its learning rate alone does not win."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from inversion.report.build import make_report
from inversion.report.data.collect import collect
from inversion.tracking.connection import connect

Sweep = Callable[..., Any]

TUNED = "grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]\ntune: {lr: [1e-5, 1e-3]}"


def test_the_dry_run_says_what_is_done_when(lab: Any, sweep: Sweep) -> None:
    outcome = sweep(lab.spec(TUNED, lr=None), "--dry-run")
    assert outcome.code == 0, outcome.err
    assert "8 runs" in outcome.out
    assert ("lr tuned for each of 2 configurations: 4 runs with the first seed, then 2 with the other seeds of the "
            "best by validation; the rest are not done") in outcome.out


def test_a_tuned_study_ranks_the_chosen_values_alone(lab: Any, sweep: Sweep, work_here: Callable[..., None]) -> None:
    spec = lab.spec(TUNED, lr=None)
    assert sweep(spec, "--workers", 0).code == 0
    work_here()
    outcome = sweep(spec)
    assert outcome.code == 0, outcome.err
    runs = lab.results().runs
    done = {(run.data.params["decoder"], float(run.data.params["lr"]), run.data.params["seed"]): run for run in runs}
    assert len(runs) == len(done) == 6
    by_validation = {decoder: max((1e-5, 1e-3), key=lambda lr: done[decoder, lr, "0"].data.metrics["best/val_psnr"])
                     for decoder in ("transposed_conv", "wavelet")}
    assert {(decoder, lr) for decoder, lr, seed in done if seed == "1"} == set(by_validation.items())
    assert "4 not chosen" not in outcome.out  # two values were not chosen, with one seed each
    parent = lab.results().parent
    assert parent.data.tags["inversion.runs"] == "6 finished, 2 not chosen"
    assert parent.info.status == "FINISHED"
    ranked = pd.read_csv(lab.results().client.download_artifacts(parent.info.run_id, "leaderboard.csv"))
    assert len(ranked) == 4

    data = collect(connect(), "tiny")
    report = make_report(connect(), data)
    assert data.missing == []
    board = report.board
    assert board is not None
    assert {(item.plain, len(item.runs), float(item.parameters["lr"])) for item in board.configurations} == {
        (f"vgg16:block1+{decoder}", 2, lr) for decoder, lr in by_validation.items()}
    table, = (table for table in report.tables if table.key == "tuning")
    assert {row["border"] for row in table.rows} == {"lr"}
    assert {row["chosen"] for row in table.rows} == {f"lr={lr:g}" if lr != 1e-5 else "lr=1e-05"
                                                     for lr in by_validation.values()}
    assert any(table.key == "decoders" and table.rows for table in report.tables)  # compared, each at its own rate
    assert any("at the border of what was tried" in sentence for sentence in report.headline)
    assert "tuning" in report.charts


WRONG = {
    "a text": ("tune: lr", "s.yaml:3: tune is a mapping of parameters to lists or ranges"),
    "nothing": ("tune: {trials: 3}", "s.yaml:3: tune is a mapping of parameters"),
    "unknown": ("tune: {learning_rate: [1]}", "s.yaml:3: unknown parameter 'learning_rate'"),
    "seed": ("tune: {seed: [1, 2]}", "s.yaml:3: seed cannot be searched"),
    "an axis": ("tune: {decoder: [wavelet, attention]}", "s.yaml:3: decoder is an axis of the grid too, at s.yaml:2"),
    "in base": ("tune: {lr: [1e-4, 1e-3]}\nbase: {lr: 1e-4}", "s.yaml:3: lr has one value already, at s.yaml:4"),
    "a range without a budget": ("tune: {lr: {low: 1e-5, high: 1e-2, log: true}}",
                                 "s.yaml:3: lr is a range: give the number of values to try"),
    "a budget without a range": ("tune: {lr: [1e-4, 1e-3], trials: 4}", "s.yaml:3: trials is for ranges"),
    "a budget of one": ("tune: {lr: {low: 1e-5, high: 1e-2}, trials: 1}", "s.yaml:3: trials: '1' is not allowed"),
    "one value": ("tune: {lr: 1e-4}", "s.yaml:3: lr: expected a list of choices or a range"),
    "wrong value": ("tune: {lr: [1e-4, fast]}", "s.yaml:3: lr: 'fast' is not allowed"),
}


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_tuning_is_refused_with_its_line(text: str, line: str, lab: Any, sweep: Sweep) -> None:
    (lab.folder / "s.yaml").write_text(f"study: s\ngrid: [{{decoder: [wavelet]}}]\n{text}\n")
    outcome = sweep("s.yaml", "--dry-run")
    assert outcome.code == 2
    assert line in outcome.err, outcome.err


def test_a_search_is_not_tuned(lab: Any, sweep: Sweep) -> None:
    (lab.folder / "s.yaml").write_text("study: s\nsearch: {trials: 2, space: {lr: [1e-4, 1e-3]}}\ntune: {lr: [1, 2]}\n")
    assert "s.yaml:3: tune is for a grid, and this is a search" in sweep("s.yaml", "--dry-run").err


def test_a_range_is_filled_evenly_and_the_same_every_time(lab: Any, sweep: Sweep) -> None:
    from inversion.sweeps.spec.spec import load_spec

    (lab.folder / "s.yaml").write_text("study: s\ngrid: [{decoder: [wavelet, attention]}]\n"
                                       "tune: {lr: {low: 1e-5, high: 1e-2, log: true}, trials: 8}\n")
    def rates(decoder: str) -> list[float]:
        return [config.lr for config in load_spec("s.yaml").configs if config.decoder == decoder]

    assert rates("wavelet") == rates("attention") == rates("wavelet")
    assert len(set(rates("wavelet"))) == 8
    assert all(1e-5 <= rate <= 1e-2 for rate in rates("wavelet"))
    assert sum(rate < 1e-4 for rate in rates("wavelet")) in (2, 3)
    assert sum(rate > 1e-3 for rate in rates("wavelet")) in (2, 3)


def test_a_range_prints_nothing_of_optunas(lab: Any) -> None:
    (lab.folder / "s.yaml").write_text("study: s\ngrid: [{decoder: wavelet}]\nbase: {data: sample}\n"
                                       "tune: {lr: {low: 1e-5, high: 1e-2}, trials: 2}\n")
    ended = subprocess.run([sys.executable, "-m", "inversion.sweeps", "s.yaml", "--dry-run"], cwd=lab.folder,
                           capture_output=True, text=True, check=True)
    assert ended.stderr == ""
