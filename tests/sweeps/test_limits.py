"""Limits of a sweep: which runs go first, after how many it stops, and how long each may train."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from inversion.sweeps.queue.allowance import Allowance
from inversion.sweeps.queue.entry import latest
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.tracking.lifecycle import FAILURE
from inversion.tracking.study import SIDE_BY_SIDE

RANKED = """grid:
  - {decoder: transposed_conv}
  - {decoder: wavelet, seed: [0, 1], priority: 2}
  - {decoder: linear, priority: -1}
"""
GRID = "grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]"
Sweep = Callable[..., Any]


def in_order(lab: Any) -> list[str]:
    """The runs as they were started."""
    return [run.info.run_name.removeprefix("vgg16:block1+")
            for run in sorted(lab.results().runs, key=lambda run: run.info.start_time)]


def test_deciding_runs_go_first_and_do_not_take_others_along(
    lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[..., None]
) -> None:
    queued(RANKED, epochs=1)
    shown = sweep("--status", "--study", "tiny").out
    names = [line.split()[1] for line in shown.splitlines() if line.strip()[:1].isdigit()]
    assert names == [f"vgg16:block1+{name}" for name in ("wavelet", "wavelet", "transposed_conv", "linear")]
    work_here(side_by_side=4)
    assert in_order(lab) == ["wavelet", "wavelet seed=1", "transposed_conv", "linear"]
    assert not [run for run in lab.results().runs if SIDE_BY_SIDE in run.data.tags]


def test_the_dry_run_shows_priorities_where_there_are_any(lab: Any, sweep: Sweep) -> None:
    lines = sweep(lab.spec(RANKED), "--dry-run").out.splitlines()
    header = next(line.split() for line in lines if line.split()[:2] == ["#", "run"])
    assert header == ["#", "run", "decoder", "seed", "priority"]
    assert [line.split()[-1] for line in lines if line[:2].strip().isdigit()] == ["0", "2", "2", "-1"]
    assert "priority" not in sweep(lab.spec("grid: [{seed: [0, 1], priority: 0}]"), "--dry-run").out


@pytest.mark.parametrize("priority", ["high", "1.5", "[1, 2]", "", "9999999999", "{a: b}"])
def test_a_priority_is_a_whole_number(priority: str, lab: Any, sweep: Sweep) -> None:
    outcome = sweep(lab.spec(f"grid: [{{seed: 1, priority: {priority}}}]"), "--dry-run")
    assert outcome.code == 2
    assert ", block 1: priority: a whole number, such as 1; higher ones are done first" in outcome.err


def test_a_sweep_stops_after_so_many_runs_and_the_rest_stays_queued(
    lab: Any, sweep: Sweep, work_here: Callable[..., None]
) -> None:
    outcome = sweep(lab.spec(GRID, epochs=1), "--max-runs", 2, "--notify", "tee told.json")
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    assert "stopped by --max-runs 2: 2 runs of study tiny are not done; the same command continues" in outcome.out
    told = json.loads((lab.folder / "told.json").read_text())
    assert (told["state"], told["message"]) == ("interrupted", "--max-runs 2 reached")
    left = lab.results()
    assert left.parent.data.tags["inversion.runs"] == "2 queued, 2 finished"
    assert left.parent.info.status == "SCHEDULED"
    assert {run.data.tags[SIDE_BY_SIDE] for run in left.runs} == {"2"}
    assert len(left.by_digest) == 2
    work_here()
    assert sweep("--join", "--study", "tiny", "--max-runs", 5).code == 0
    assert len(lab.results().by_digest) == 4
    assert lab.results().parent.info.status == "FINISHED"


def test_a_failed_run_is_one_of_those_that_have_ended_and_an_interrupted_one_is_not(bench: Any) -> None:
    queue = bench.open()
    queue.add([Queued(f"run {number}", {"epochs": 2}, f"digest {number}") for number in range(5)])
    queue.allowance = Allowance("this", 2)
    first, second = queue.claim(), queue.claim()
    assert queue.claim() is None
    assert not queue.is_used_up(queue.entries())
    queue.fail(first.trial._trial_id, "oom", "no memory")
    queue.release(second.trial._trial_id, "a test")
    again = queue.claim()
    assert (again.name, queue.claim()) == (second.name, None)
    queue.complete(again.trial._trial_id, 1.0, "run", {})
    assert queue.is_used_up(queue.entries())
    other = bench.open()
    other.allowance = Allowance("another command", 1)
    assert len(other.claim_others(4, lambda entry: True)) == 0  # it has not looked yet
    assert other.claim() is not None
    assert other.claim_others(4, lambda entry: True) == []


def claim_all(queue: Queue) -> int:
    queue.allowance = Allowance("this", 5)
    taken = 0
    while queue.claim() is not None:
        taken += 1
    return taken


def test_workers_of_one_command_share_the_limit(any_bench: Any) -> None:
    any_bench.open().add([Queued(f"run {number}", {"epochs": 2}, f"digest {number}") for number in range(20)])
    taken = any_bench.at_once(3, claim_all)
    assert sum(taken) == 5


@pytest.mark.parametrize("words", [("--status",), ("--dry-run",), ("--workers", 0)])
def test_a_limit_is_for_workers(words: tuple[object, ...], sweep: Sweep) -> None:
    outcome = sweep("smoke.yaml", "--max-runs", 3, *words)
    assert outcome.code == 2
    assert "--max-runs is for workers" in outcome.err


def test_a_run_at_its_limit_has_no_result_and_a_larger_limit_goes_on_with_it(
    lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[..., None]
) -> None:
    text = "grid: [{decoder: linear}]\nlimits: {run_time: %s}"
    queued(text % "0.001s")
    work_here()
    run, = lab.results().runs
    assert (run.info.status, run.data.tags[FAILURE]) == ("KILLED", "time_limit")
    shown = sweep("--status", "--study", "tiny").out
    assert "study tiny: 1 timed out" in shown
    assert "timed out vgg16:block1+linear: stopped after step 0 of epoch 2: it has trained for 0:00:0" in shown
    joined = sweep("--join", "--study", "tiny", "--workers", 1)
    assert joined.code == 1, joined.err
    assert "1 run without a result, at the limit run_time: 0 vgg16:block1+linear." in joined.out
    assert lab.results().parent.info.status == "FAILED"
    refused = sweep("--study", "tiny", "--resume", 0)
    assert (refused.code, "0 vgg16:block1+linear reached the study's limit" in refused.err) == (2, True)
    queued(text % "0.001s")
    assert [entry.state for entry in latest(lab.results().trials)] == ["timed out"]
    queued(text % "1h")
    work_here()
    now, = lab.results().runs
    assert (now.info.run_id, now.info.status) == (run.info.run_id, "FINISHED")
