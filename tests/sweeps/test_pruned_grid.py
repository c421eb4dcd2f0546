"""Early stopping across a grid, from its spec to its report: what is stopped is named, and ranked nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from inversion.report.build import make_report
from inversion.report.data.collect import collect
from inversion.report.data.study import StoppedEarly
from inversion.sweeps.queue.entry import Entry, latest
from inversion.tracking.connection import connect

Sweep = Callable[..., Any]

GRID = "grid:\n  - decoder: [linear]\n    lr: [1e-3, 1e-9]\n    seed: [0, 1]\n"
MEDIAN = "pruner: {name: median, n_startup_trials: 1}"


def states(lab: Any) -> dict[tuple[float, int], Entry]:
    """The runs of the queue by learning rate and seed."""
    return {(entry.config["lr"], entry.config["seed"]): entry for entry in latest(lab.results().trials)}


def test_a_hopeless_configuration_is_stopped_and_ranked_nowhere(lab: Any, sweep: Sweep) -> None:
    spec = lab.spec(GRID + MEDIAN, lr=None, min_lr="1e-12", epochs=3)
    outcome = sweep(spec, "--side-by-side", 1)
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    assert "pruner: median (n_startup_trials=1)" in outcome.out
    entries = states(lab)
    assert {key: entry.state for key, entry in entries.items()} == {
        (1e-3, 0): "finished", (1e-3, 1): "finished", (1e-9, 0): "pruned", (1e-9, 1): "pruned"}

    left, first, second = lab.results(), entries[1e-9, 0], entries[1e-9, 1]
    assert (first.epoch, second.epoch, second.run_id) == (1, 0, None), "of its other seed, nothing is trained"
    run = left.client.get_run(first.run_id)
    assert (run.info.status, run.data.tags["inversion.failure"], run.data.tags["inversion.failure_message"]) == (
        "KILLED", "pruned", "pruned after epoch 1: not promising compared to the others")
    assert not any(name.startswith("test/") for name in run.data.metrics)
    listed = json.loads(Path(left.client.download_artifacts(left.parent.info.run_id, "runs.json")).read_text())
    assert {item["trial"]: (item["pruned_by"], item["epoch"]) for item in listed if "pruned_by" in item} == {
        first.root: ("median", 1), second.root: ("median", 0)}
    board = pd.read_csv(left.client.download_artifacts(left.parent.info.run_id, "leaderboard.csv"))
    assert set(board["run_id"]) == {entries[1e-3, seed].run_id for seed in (0, 1)}
    assert left.parent.data.tags["inversion.runs"] == "2 finished, 2 pruned"

    shown = sweep("--status", "--study", "tiny")
    assert (shown.code, "study tiny: 2 finished, 2 pruned" in shown.out) == (0, True)
    assert shown.out.count("pruned  0:") == 1, "what was not trained has no row"
    for out in (outcome.out, shown.out):
        assert (f"1 configuration was stopped early by the median pruner: {first.root} vgg16:block1+linear lr=1e-09 "
                "(epoch 1) (and 1 run with other seeds not trained). --rerun RUN trains a run to the end") in out

    data = collect(connect(), "tiny")
    assert data.missing == []
    report = make_report(connect(), data)
    assert report.board is not None
    assert [float(item.parameters["lr"]) for item in report.board.configurations] == [1e-3]
    assert [sentence for sentence in report.headline if "stopped early" in sentence] == [
        "1 configuration was stopped early by the median pruner at epoch 1: vgg16:block1+linear lr=1e-09 (and 1 run "
        "with other seeds not trained)."]
    methods = " ".join(paragraph.text for paragraph in report.methods)
    assert "Training was stopped early for 1 configuration by the median pruner of Optuna [@akiba2019optuna]" in methods


def test_the_report_says_after_which_epoch_each_was_stopped() -> None:
    stopped = StoppedEarly(("hyperband", "median"), {"a": 3, "b": 9}, 2)
    assert str(stopped) == ("2 configurations were stopped early by the hyperband and median pruner at epochs 3 to 9: "
                            "a (3), b (9) (and 2 runs with other seeds not trained)")
    assert not StoppedEarly((), {}, 0)


def test_a_pruned_run_is_trained_to_the_end_on_request(lab: Any, sweep: Sweep) -> None:
    grid = "grid:\n  - decoder: [linear]\n    lr: [1e-3, 1e-9, 1e-10]\n"
    words = ("--side-by-side", 1)
    outcome = sweep(lab.spec(grid + MEDIAN, lr=None, min_lr="1e-12", epochs=3), *words)
    assert outcome.code == 0, outcome.err
    entries = states(lab)
    assert [entries[lr, 0].state for lr in (1e-3, 1e-9, 1e-10)] == ["finished", "pruned", "pruned"]
    before = {lr: entries[lr, 0].run_id for lr in (1e-9, 1e-10)}

    again = sweep(lab.folder / "tiny.yaml", *words)  # the same request changes nothing
    assert again.code == 0, again.err
    assert "3 runs, 0 of them new" in again.out
    assert states(lab)[1e-9, 0].state == "pruned"

    assert sweep("--study", "tiny", "--rerun", "*lr=1e-09").code == 0
    assert sweep("--join", "--study", "tiny").code == 0
    now = states(lab)
    assert [now[lr, 0].state for lr in (1e-3, 1e-9, 1e-10)] == ["finished", "finished", "pruned"]
    assert now[1e-9, 0].epoch == 3
    assert now[1e-9, 0].run_id != before[1e-9]

    without = sweep(lab.spec(grid, lr=None, min_lr="1e-12", epochs=3), *words)
    assert without.code == 0, without.err
    assert "1 pruned run is queued again, as the spec has no pruner" in without.out
    now = states(lab)
    assert [now[lr, 0].state for lr in (1e-3, 1e-9, 1e-10)] == ["finished"] * 3
    assert now[1e-10, 0].run_id == before[1e-10], "it goes on from its checkpoint"
    steps = [step for step, _ in lab.results().history(lab.results().client.get_run(before[1e-10]), "val/psnr")]
    assert steps == [1, 2, 3]


def test_the_dry_run_says_what_may_be_stopped(lab: Any, sweep: Sweep) -> None:
    halving = GRID + "pruner: {name: successive_halving, min_resource: 1}"
    outcome = sweep(lab.spec(halving, lr=None, min_lr="1e-12"), "--dry-run")
    assert outcome.code == 0, outcome.err
    assert ("pruner successive_halving (min_resource=1) on val/psnr: the first seed of each configuration competes"
            in outcome.out)
    for text in (GRID, GRID + "pruner: none"):
        assert "competes" not in sweep(lab.spec(text, lr=None, min_lr="1e-12"), "--dry-run").out


WRONG = {
    "unknown": ("pruner: medain", "s.yaml:4: unknown pruner 'medain'. Known: none, median, successive_halving, "
                "hyperband. Did you mean 'median'?"),
    "another tool's": ("pruner: asha", "s.yaml:4: unknown pruner 'asha'. Known: none, median, successive_halving, "
                       "hyperband. Did you mean 'successive_halving'?"),
    "another key": ("early_stopping: median", "s.yaml:4: a spec has no 'early_stopping'"),
    "an option": ("pruner: {name: median, n_warmup: 3}", "s.yaml:4: pruner median has no option 'n_warmup'. Known: "),
    "a value": ("pruner: {name: successive_halving, reduction_factor: 1}", "s.yaml:4: reduction_factor: '1' is not"),
    "no name": ("pruner: {n_warmup_steps: 3}", "s.yaml:4: pruner: the name is missing"),
    "nothing": ("pruner:", "s.yaml:4: pruner: expected a single value, got nothing"),
    "tuned": ("pruner: {name: median, n_startup_trials: 1}\ntune: {lr: [1e-4, 1e-3]}",
              "s.yaml:4: pruner and tune (at s.yaml:5) exclude each other"),
    "too few": ("pruner: median", "s.yaml:4: pruner median would stop nothing: it waits until 5 runs are finished "
                "(n_startup_trials), and the grid has 2 configurations. Give a smaller one, as in {name: median, "),
    "too short": ("pruner: {name: hyperband, min_resource: 4}", "s.yaml:4: pruner hyperband (min_resource=4) would "
                  "stop nothing: it is asked after epoch 4 at the earliest, and the runs have 4 epochs"),
}


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_a_wrong_pruner_is_refused_with_its_line(text: str, line: str, lab: Any, sweep: Sweep) -> None:
    (lab.folder / "s.yaml").write_text(
        f"study: s\nbase: {{epochs: 4}}\ngrid: [{{decoder: [wavelet, attention], seed: [0, 1, 2]}}]\n{text}\n")
    outcome = sweep("s.yaml", "--dry-run")
    assert outcome.code == 2
    assert line in outcome.err, outcome.err


def test_the_pruner_of_a_search_belongs_in_it(lab: Any, sweep: Sweep) -> None:
    (lab.folder / "s.yaml").write_text("study: s\nsearch: {trials: 2, space: {lr: [1e-4, 1e-3]}}\npruner: median\n")
    assert ("s.yaml:3: a pruner here is for a grid; that of a search belongs in it (at s.yaml:2)"
            in sweep("s.yaml", "--dry-run").err)


def test_a_pruner_is_inherited_and_removed(lab: Any, sweep: Sweep) -> None:
    lab.spec(GRID + MEDIAN, lr=None, min_lr="1e-12")
    child = lab.folder / "child.yaml"
    child.write_text("study: child\nextends: tiny.yaml\n")
    assert "pruner median (n_startup_trials=1) on val/psnr" in sweep(child, "--dry-run").out
    child.write_text("study: child\nextends: tiny.yaml\npruner:\n")
    removed = sweep(child, "--dry-run")
    assert (removed.code, "competes" in removed.out) == (0, False)
