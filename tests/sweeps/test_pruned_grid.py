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
from inversion.sweeps.queue.entry import Entry, latest
from inversion.tracking.connection import connect

Sweep = Callable[..., Any]

GRID = "grid:\n  - decoder: [transposed_conv, linear]\n    lr: [1e-3, 1e-9]\n    seed: [0, 1]\n"
MEDIAN = "pruner: {name: median, n_startup_trials: 1}"


def states(lab: Any) -> dict[tuple[str, float, int], Entry]:
    """The runs of the queue by decoder, learning rate and seed."""
    return {(entry.config["decoder"], entry.config["lr"], entry.config["seed"]): entry
            for entry in latest(lab.results().trials)}


def test_hopeless_configurations_are_stopped_and_ranked_nowhere(lab: Any, sweep: Sweep) -> None:
    spec = lab.spec(GRID + MEDIAN, lr=None, min_lr="1e-12", epochs=4)
    outcome = sweep(spec, "--side-by-side", 1)
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    assert "pruner: median (n_startup_trials=1)" in outcome.out
    entries = states(lab)
    pruned = {key for key, entry in entries.items() if entry.state == "pruned"}
    assert {key for key in pruned if key[2] == 0} == {key for key, entry in entries.items() if entry.epoch in (1, 2, 3)}
    assert ("transposed_conv", 1e-9, 0) in pruned
    assert {(decoder, lr) for decoder, lr, _ in pruned} == {key[:2] for key in pruned if key[2] == 1}, "with its seeds"
    assert {entry.state for key, entry in entries.items() if key not in pruned} == {"finished"}

    left = lab.results()
    first = entries["transposed_conv", 1e-9, 0]
    run = left.client.get_run(first.run_id)
    assert (run.info.status, run.data.tags["inversion.failure"]) == ("KILLED", "pruned")
    assert run.data.tags["inversion.failure_message"] == (
        f"pruned after epoch {first.epoch}: not promising compared to the others")
    assert not any(name.startswith("test/") for name in run.data.metrics)
    second = entries["transposed_conv", 1e-9, 1]
    assert (second.run_id, second.epoch) == (None, 0)
    assert second.trial.user_attrs["failure_message"] == (
        f"not trained: run {first.root}, another seed of its configuration, was pruned")
    listed = json.loads(Path(left.client.download_artifacts(left.parent.info.run_id, "runs.json")).read_text())
    by_trial = {item["trial"]: item for item in listed}
    assert (by_trial[first.root]["pruned_by"], by_trial[first.root]["epoch"]) == ("median", first.epoch)
    assert (by_trial[second.root]["pruned_by"], by_trial[second.root]["epoch"]) == ("median", 0)
    board = pd.read_csv(left.client.download_artifacts(left.parent.info.run_id, "leaderboard.csv"))
    assert len(board) == 8 - len(pruned)

    said = f"{first.root} vgg16:block1+transposed_conv lr=1e-09 (epoch {first.epoch})"
    assert said in outcome.out
    assert "stopped early by the median pruner" in outcome.out
    shown = sweep("--status", "--study", "tiny")
    assert shown.code == 0, shown.out
    assert f"study tiny: {8 - len(pruned)} finished, {len(pruned)} pruned" in shown.out

    data = collect(connect(), "tiny")
    assert data.missing == []
    report = make_report(connect(), data)
    assert report.board is not None
    assert not {(item.parameters["decoder"], float(item.parameters["lr"])) for item in report.board.configurations} & {
        key[:2] for key in pruned}
    assert any("stopped early by the median pruner at epoch" in sentence
               and "vgg16:block1+transposed_conv lr=1e-09" in sentence for sentence in report.headline)


def test_a_pruned_run_is_trained_to_the_end_on_request(lab: Any, sweep: Sweep) -> None:
    grid = "grid:\n  - decoder: [linear]\n    lr: [1e-3, 1e-9, 1e-10]\n"
    words = ("--side-by-side", 1)
    outcome = sweep(lab.spec(grid + MEDIAN, lr=None, min_lr="1e-12", epochs=3), *words)
    assert outcome.code == 0, outcome.err
    entries = states(lab)
    assert [entries["linear", lr, 0].state for lr in (1e-3, 1e-9, 1e-10)] == ["finished", "pruned", "pruned"]
    before = {lr: entries["linear", lr, 0].run_id for lr in (1e-9, 1e-10)}

    again = sweep(lab.folder / "tiny.yaml", *words)  # the same request changes nothing
    assert again.code == 0, again.err
    assert "3 runs, 0 of them new" in again.out
    assert states(lab)["linear", 1e-9, 0].state == "pruned"

    assert sweep("--study", "tiny", "--rerun", "*lr=1e-09").code == 0
    assert sweep("--join", "--study", "tiny").code == 0
    now = states(lab)
    assert [now["linear", lr, 0].state for lr in (1e-3, 1e-9, 1e-10)] == ["finished", "finished", "pruned"]
    assert now["linear", 1e-9, 0].epoch == 3
    assert now["linear", 1e-9, 0].run_id != before[1e-9]

    without = sweep(lab.spec(grid, lr=None, min_lr="1e-12", epochs=3), *words)
    assert without.code == 0, without.err
    assert "1 pruned run is queued again, as the spec has no pruner" in without.out
    now = states(lab)
    assert [now["linear", lr, 0].state for lr in (1e-3, 1e-9, 1e-10)] == ["finished"] * 3
    assert now["linear", 1e-10, 0].run_id == before[1e-10], "it goes on from its checkpoint"
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
