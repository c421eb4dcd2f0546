"""Runs of a study that train side by side on one encoder pass: the same study, sooner."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from inversion.cli.app import run_command
from inversion.cli.sweep import cli
from inversion.config.run_config import parse_config
from inversion.errors import InversionError, RequestError
from inversion.models.decoders.attention import AttentionDecoder
from inversion.runs.train import train_steps
from inversion.sweeps import actions
from inversion.sweeps.queue.queue import Queue, Queued
from inversion.sweeps.workers import worker as worker_module
from inversion.sweeps.workers.worker import can_train_together
from inversion.tracking.study import SIDE_BY_SIDE
from inversion.training.callbacks import Callback
from inversion.training.step import BatchGradients

DECODERS = ("transposed_conv", "attention", "wavelet", "frequency_aware")
GRID = f"grid:\n  - decoder: [{', '.join(DECODERS)}]\n  - {{decoder: wavelet, seed: 1}}"
Work = Callable[..., None]


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, enter_workplace: Callable[[Path, pytest.MonkeyPatch], None],
    make_lab: Callable[..., Any],
) -> Any:
    """What the study comes to with one run after the other."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        enter_workplace(folder, patch)
        lab = make_lab(folder)
        assert run_command(cli, [str(lab.spec(GRID)), "--side-by-side", "1"]) == 0
    return lab.results()


def test_a_study_side_by_side_has_the_numbers_of_one_run_after_the_other(
        lab: Any, queued: Work, work_here: Work, alone: Any) -> None:
    queued(GRID)
    work_here(side_by_side=4)
    left = lab.results()
    lab.require_equal(left, alone)
    sizes = {(run.data.params["decoder"], run.data.params["seed"]): run.data.tags.get(SIDE_BY_SIDE)
             for run in left.runs}
    assert sizes == {(decoder, "0"): "4" for decoder in DECODERS} | {("wavelet", "1"): None}


@pytest.mark.acceptance
@pytest.mark.alone
@pytest.mark.parametrize(("words", "size"), [((), "4"), (("--side-by-side", 2), "2"), (("--workers", 2), "None")])
def test_a_single_worker_on_a_cpu_takes_four_and_others_what_the_command_says(
        words: Sequence[object], size: str, lab: Any, alone: Any) -> None:
    process = lab.start(lab.spec(GRID), *words, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    lab.require_equal(lab.results(), alone)
    assert sorted(str(run.data.tags.get(SIDE_BY_SIDE)) for run in lab.results().runs) == [size] * 4 + ["None"]


def test_one_that_fails_fails_alone(
        lab: Any, queued: Work, work_here: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    original = BatchGradients.of

    def hungry(gradients: BatchGradients, *rest: Any) -> Any:
        if isinstance(gradients.model.decoder, AttentionDecoder):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(gradients, *rest)

    queued(GRID)
    monkeypatch.setattr(BatchGradients, "of", hungry)
    work_here(side_by_side=4)
    ends = {run.data.params["decoder"]: run.info.status for run in lab.results().runs if run.data.params["seed"] == "0"}
    assert ends == dict.fromkeys(DECODERS, "FINISHED") | {"attention": "FAILED"}
    assert [trial.user_attrs.get("failure") for trial in lab.results().trials] == [None, "oom", None, None, None]


def test_a_machine_that_can_begin_none_leaves_what_it_has_claimed_besides_alone(
        lab: Any, queued: Work, work_here: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RequestError("no photographs here")

    queued(GRID)
    monkeypatch.setattr(worker_module, "prepare", refuse)
    with pytest.raises(InversionError, match="3 runs in a row could not be started"):
        work_here(side_by_side=4)
    attributes = [trial.user_attrs for trial in lab.results().trials]
    assert [values.get("failure") for values in attributes[:4]] == ["request"] * 3 + [None]
    assert attributes[3]["released"].startswith("stopped before training: 3 runs in a row")


@pytest.mark.parametrize(("gpus", "options", "number"), [
    ([], {}, 4), ([], {"workers": 1}, 4), ([], {"workers": 2}, 1), ([], {"join": True}, 1), ([], {"ray": "auto"}, 1),
    (["0"], {}, 1), (["0"], {"side_by_side": 3}, 3), ([], {"side_by_side": 1}, 1),
])
def test_unasked_only_the_single_worker_of_a_command_on_a_cpu_does_it(
        gpus: list[str], options: dict[str, Any], number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "visible_gpus", lambda: gpus)
    given = {"side_by_side": None, "workers": None, "join": False, "ray": None} | options
    assert actions.runs_side_by_side(given) == number


def test_a_worker_that_is_stopped_gives_all_of_them_back_and_they_end_as_if_it_had_not_been(
        lab: Any, queued: Work, work_here: Work, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Callback):
        def __init__(self, stop: Any) -> None:
            self.stop = stop

        def on_step(self, epoch: int, step: int, steps: int, loss: float | None) -> None:
            if epoch == 2:
                self.stop._parent.set("SIGTERM received")

    def train_until_told(prepared: Any, connection: Any, callbacks: Any, stop: Any, *rest: Any) -> Any:
        return train_steps(prepared, connection, [*callbacks, Stop(stop)], stop, *rest)

    queued(GRID)
    monkeypatch.setattr(worker_module, "train_steps", train_until_told)
    work_here(side_by_side=4)
    stopped = lab.results().runs
    assert [run.info.status for run in stopped] == ["KILLED"] * 4
    assert sum("released" in trial.user_attrs for trial in lab.results().trials) == 4
    monkeypatch.setattr(worker_module, "train_steps", train_steps)
    work_here(side_by_side=4)
    assert {run.info.run_id for run in stopped} < {run.info.run_id for run in lab.results().runs}
    lab.require_equal(lab.results(), alone)


def test_only_runs_that_share_a_pass_are_claimed_together_and_only_once(bench: Any) -> None:
    base = parse_config({"encoder": "vgg16:block1", "weights": "random"}).model_dump()
    others: list[dict[str, Any]] = [
        {}, {"decoder": "wavelet"}, {"seed": 1}, {"lr": 1e-3}, {"encoder": "resnet34:layer1"},
        {"decoder": "attention"}, {"batch_size": 2}, {"mse_weight": 1.0}]
    ours, theirs = bench.open(), bench.open()
    ours.add([Queued(str(number), base | other, str(number)) for number, other in enumerate(others)])

    def claimed(queue: Queue, most: int) -> list[int]:
        entry = queue.claim()
        assert entry is not None
        company = queue.claim_others(most, lambda other: can_train_together(entry, other))
        return [entry.trial.number, *(other.trial.number for other in company)]

    assert claimed(ours, 2) == [0, 1, 3]
    assert claimed(theirs, 9) == [2]
    assert claimed(ours, 9) == [4]
    assert claimed(theirs, 9) == [5, 7]
    assert claimed(ours, 9) == [6]
    assert ours.claim() is None


@pytest.mark.acceptance
@pytest.mark.alone
def test_a_worker_that_is_killed_costs_what_came_after_the_last_checkpoints_and_they_go_on_one_at_a_time(
        lab: Any, epochs: int, undisturbed: Any) -> None:
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]", epochs=epochs)
    process = lab.start(spec, "--side-by-side", 2)
    lab.until(lambda: sum(bool(trial.intermediate_values) for trial in lab.results().trials) == 2, 120, process)
    worker, = lab.workers(process)
    worker.kill()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "killed by SIGKILL" in out
    left = lab.results()
    lab.require_equal(left, undisturbed)
    assert [trial.state.name for trial in left.trials].count("FAIL") == 2
    tags = [run.data.tags.get(SIDE_BY_SIDE) for run in left.runs]
    assert tags.count("2") == 4


def test_seeds_and_decoders_read_the_same_features_of_fixed_crops(
    lab: Any, queued: Callable[..., None], work_here: Work, workplace: Path
) -> None:
    queued("grid:\n  - {decoder: [transposed_conv, wavelet], seed: [0, 1]}", crops="fixed:2",
           data_dir=workplace / "data")
    work_here(side_by_side=4)
    left = lab.results()
    assert [run.info.status for run in left.runs] == ["FINISHED"] * 4
    assert {run.data.params["crops"] for run in left.runs} == {"fixed:2"}
    entries = [json.loads(file.read_text()) for file in workplace.glob("data/cache/features/*/entry.json")]
    assert [(entry["encoder"], entry["count"] % 2) for entry in entries] == [("vgg16:block1", 0)]
    assert len({run.data.metrics["test/psnr"] for run in left.runs}) == 4
