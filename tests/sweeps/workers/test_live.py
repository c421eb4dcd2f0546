"""What a terminal of 80 and of 140 columns shows of a study, and what lines of a log say."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from inversion.console import Console
from inversion.sweeps.queue.entry import Snapshot, latest
from inversion.sweeps.workers.live import View, best_run, outlook, render

NOW = datetime(2026, 1, 1, 12)
START = "inversion-sweep --join --study target"
NAME = "vgg16:block1+transposed_conv"
ENSEMBLE = "resnet34:layer1+vgg16:block3/pool=2+vit_small:block3+attention+transposed_conv"
CELLS: list[dict[str, Any]] = [{"protocol": protocol, "lpips_weight": weight}
                               for protocol in ("image", "published") for weight in (0.5, 0.0)]


def trial(number: int, state: TrialState, name: str = NAME, psnr: Sequence[float] = (), pid: str = "7",
          host: str = "lab", score: float | None = None, **config: Any) -> FrozenTrial:
    attributes: dict[str, Any] = {"run": name, "config": {"epochs": 30, **config}}
    if state == TrialState.RUNNING:
        attributes["owner"] = {"inversion.host": host, "inversion.pid": pid}
    if score is not None:
        attributes |= {"scores": {"test/psnr": score}, "mlflow_run": f"{number:08d}" + 24 * "f"}
    made = optuna.create_trial(state=state, value=1.0 if state == TrialState.COMPLETE else None,
                               intermediate_values=dict(enumerate(psnr, start=1)), user_attrs=attributes)
    made.number = number
    made.datetime_start = None if state == TrialState.WAITING else NOW - timedelta(seconds=100)
    made.datetime_complete = NOW if state in (TrialState.COMPLETE, TrialState.FAIL) else None
    return made


def shown(width: int, *trials: FrozenTrial) -> str:
    output = io.StringIO()
    snapshot = Snapshot(latest(trials), NOW)
    when = outlook(snapshot, 1, START, timedelta(seconds=55))
    Console(file=output, width=width).print(render(snapshot, "study target", "val/psnr", "maximize", when))
    text = output.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("state", [TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE])
def test_no_name_is_cut(width: int, state: TrialState) -> None:
    text = shown(width, *(trial(number, state, name, score=20.0 if state == TrialState.COMPLETE else None)
                          for number, name in enumerate((NAME, ENSEMBLE[:70], "ensemble+attention+frequency_aware"))))
    for name in (NAME, ENSEMBLE[:70], "ensemble+attention+frequency_aware"):
        assert any(name in line for line in text.splitlines()), text


@pytest.mark.parametrize("width", [80, 140])
def test_configurations_that_differ_beside_their_name_are_told_apart(width: int) -> None:
    text = shown(width, *(trial(number, TrialState.RUNNING, **cell) for number, cell in enumerate(CELLS)))
    for cell in CELLS:
        said = f"{NAME} protocol={cell['protocol']} lpips_weight={'0.5' if cell['lpips_weight'] else '0'}"
        assert text.count(f"{said} ") + text.count(f"{said}\n") == 1, text


def test_latest_and_best_stand_beside_each_other() -> None:
    line, = (line for line in shown(80, trial(0, TrialState.RUNNING, psnr=[18.0, 20.25, 19.5])).splitlines()
             if NAME in line)
    assert line.split()[1:] == ["3/30", "19.50", "dB", "20.25", "dB", "(2)"]


def test_a_metric_to_be_minimised_is_best_where_it_is_least() -> None:
    entry, = latest([trial(0, TrialState.RUNNING, psnr=[0.5, 0.2, 0.3])])
    assert entry.best_value("minimize") == (0.2, 2)


def test_host_and_process_are_shown_only_where_there_are_several() -> None:
    alone = shown(140, trial(0, TrialState.RUNNING), trial(1, TrialState.RUNNING, encoder="x"))
    assert "host" not in alone
    assert "process" not in alone
    processes = shown(140, trial(0, TrialState.RUNNING), trial(1, TrialState.RUNNING, pid="8", encoder="x"))
    assert "process" in processes
    assert "host" not in processes
    hosts = shown(140, trial(0, TrialState.RUNNING), trial(1, TrialState.RUNNING, host="attic", encoder="x"))
    assert "attic" in hosts


def test_finished_runs_have_their_ids_and_the_best_of_all_if_all_can_be_compared() -> None:
    one, two = trial(0, TrialState.COMPLETE, score=20.0), trial(1, TrialState.COMPLETE, "b", score=25.0)
    text = shown(80, one, two)
    assert [line.split()[-1] for line in text.splitlines() if " dB " in line] == ["00000001", "00000000", "00000001"]
    assert "best: b" in text
    assert best_run(Snapshot(latest([one, two]), NOW)) == "00000001" + 24 * "f"
    other = trial(1, TrialState.COMPLETE, "b", score=25.0, protocol="published")
    assert "best" not in shown(80, one, other)
    assert best_run(Snapshot(latest([one, other]), NOW)) is None


def test_times_are_labelled_and_without_a_worker_the_command_stands_in_their_place() -> None:
    waiting = Snapshot(latest([trial(0, TrialState.COMPLETE, score=20.0), trial(1, TrialState.WAITING)]), NOW)
    assert outlook(waiting, 1, START, timedelta(seconds=55)) == "elapsed 0:00:55 · remaining about 0:01:40"
    assert outlook(waiting, 0, START, timedelta(seconds=55)) == f"no worker: start one with `{START}`"
    assert outlook(waiting, 0, START) == f"no worker: start one with `{START}`"
    elsewhere = Snapshot(latest([trial(0, TrialState.RUNNING)]), NOW)
    assert outlook(elsewhere, 0, START) == "remaining time unknown"


def test_lines_of_a_log_tell_runs_apart_and_label_the_times() -> None:
    output = io.StringIO()
    with View(Console(file=output, width=80), "study target", "val/psnr", "maximize", START) as view:
        view.update(Snapshot(latest(trial(number, TrialState.WAITING, **cell) for number, cell in enumerate(CELLS)),
                             NOW), 1)
        view.update(Snapshot(latest([trial(0, TrialState.COMPLETE, score=20.0, **CELLS[0]),
                                     trial(1, TrialState.RUNNING, **CELLS[1]),
                                     *(trial(number, TrialState.WAITING, **CELLS[number]) for number in (2, 3))]),
                             NOW), 1)
    first, second = output.getvalue().splitlines()
    assert first == (f"[1/4 · elapsed 0:00:00 · remaining about 0:03:20] {NAME} protocol=image lpips_weight=0.5: "
                     "test PSNR 20.00 dB in 0:01:40 (run 00000000)")
    assert second.endswith(f"] {NAME} protocol=image lpips_weight=0: epoch 0/30")
