"""Limits of a sweep: which runs go first, and after how many it stops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from inversion.tracking.study import SIDE_BY_SIDE

RANKED = """grid:
  - {decoder: transposed_conv}
  - {decoder: wavelet, seed: [0, 1], priority: 2}
  - {decoder: linear, priority: -1}
"""
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
