"""Removing runs from the queue, and what is said before runs are added beside others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from inversion.sweeps.queue.entry import latest

GRID = "grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]"
Sweep = Callable[..., Any]


def names(lab: Any) -> list[str]:
    """The runs that are in the queue."""
    return [entry.name.removeprefix("vgg16:block1+") for entry in latest(lab.results().trials)]


def test_waiting_runs_are_removed_by_number_name_and_pattern(lab: Any, queued: Callable[..., None],
                                                             sweep: Sweep) -> None:
    queued(GRID)
    assert "   2  vgg16:block1+wavelet\n" in sweep("--status", "--study", "tiny").out
    shown = sweep("--study", "tiny", "--remove", "2", "--dry-run")
    assert (shown.code, shown.out) == (0, "would be removed: 2  vgg16:block1+wavelet\nstudy tiny: 1 of 4 runs would be "
                                          "removed; a spec that asks for them queues them again\n")
    assert len(names(lab)) == 4
    removed = sweep("--study", "tiny", "--remove", "2", "--remove", "*transposed_conv seed=*")
    assert removed.code == 0, removed.err
    assert "removed: 1  vgg16:block1+transposed_conv seed=1\nremoved: 2  vgg16:block1+wavelet\n" in removed.out
    assert names(lab) == ["transposed_conv", "wavelet seed=1"]
    left = lab.results()
    assert left.parent.info.status == "SCHEDULED"
    assert left.parent.data.tags["inversion.runs"] == "2 queued"
    listed = json.loads(Path(left.client.download_artifacts(left.parent.info.run_id, "runs.json")).read_text())
    assert [run["run"] for run in listed] == ["vgg16:block1+transposed_conv", "vgg16:block1+wavelet seed=1"]
    assert sweep(lab.spec(GRID), "--remove", "vgg16:block1+transposed_conv").code == 0  # instead of --study
    assert names(lab) == ["wavelet seed=1"]
    again = sweep(lab.spec(GRID), "--workers", 0)
    assert "study tiny: 4 runs, 3 of them new" in again.out
    assert sorted(names(lab)) == ["transposed_conv", "transposed_conv seed=1", "wavelet", "wavelet seed=1"]


def test_what_is_removed_is_not_worked_on_and_what_is_finished_stays(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], sweep: Sweep
) -> None:
    queued(GRID, epochs=1)
    assert sweep("--study", "tiny", "--remove", "*seed=1", "--remove", "*transposed_conv").code == 0
    work_here()
    run, = lab.results().runs
    assert run.info.run_name == "vgg16:block1+wavelet"
    refused = sweep("--study", "tiny", "--remove", "vgg16:block1+wavelet")
    assert refused.code == 2
    assert f"its result is in MLflow: `mlflow runs delete --run-id {run.info.run_id}` deletes it" in refused.err
    assert [trial.state for trial in lab.results().trials].count(TrialState.COMPLETE) == 1


def test_runs_that_are_not_waiting_stay_where_a_pattern_matches_others_too(
    lab: Any, queued: Callable[..., None], sweep: Sweep
) -> None:
    queued(GRID)
    queue = lab.results()
    first, second = latest(queue.trials)[:2]
    study = open_queue(lab)
    assert study.try_to_claim(first)
    study.fail(study.try_to_claim(second).trial._trial_id, "oom", "no memory")
    refused = sweep("--study", "tiny", "--remove", "0")
    assert (refused.code, "it is running: --stop it first" in refused.err) == (2, True)
    refused = sweep("--study", "tiny", "--remove", "1")
    assert (refused.code, "it has failed: --retry-failed runs it again" in refused.err) == (2, True)
    refused = sweep("--study", "tiny", "--remove", "*transposed*")
    assert "none of the 2 runs that match is waiting (1 running, 1 failed)" in refused.err
    removed = sweep("--study", "tiny", "--remove", "*")
    assert removed.code == 0, removed.err
    assert "not removed: 1 running, 1 failed\n" in removed.out
    assert names(lab) == ["transposed_conv", "transposed_conv seed=1"]


def open_queue(lab: Any) -> Any:
    from inversion.sweeps.queue.storage import open_storage
    from inversion.sweeps.study.study import open_study

    return open_study(open_storage(f"sqlite:///{lab.folder}/inversion-queue.db"), "tiny").queue


@pytest.mark.parametrize(("pattern", "said"), [
    ("wavelet", "Did you mean '*wavelet*'?"), ("vgg16:block1+wavlet", "Did you mean 'vgg16:block1+wavelet'?"),
    ("17", "has no run '17'"),
])
def test_what_matches_no_run_is_told_in_one_line(pattern: str, said: str, queued: Callable[..., None], sweep: Sweep,
                                                 lab: Any) -> None:
    queued()
    outcome = sweep("--study", "tiny", "--remove", pattern)
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert said in outcome.err
    assert len(names(lab)) == 2


def test_the_values_of_a_tuned_parameter_that_are_left_decide(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], sweep: Sweep
) -> None:
    queued("tune: {lr: [1e-4, 1e-3]}\ngrid:\n  - {decoder: wavelet, seed: [0, 1]}", lr=None, epochs=1)
    assert sweep("--study", "tiny", "--remove", "vgg16:block1+wavelet lr=0.0001").code == 0
    work_here()
    assert {(run.data.params["lr"], run.data.params["seed"]) for run in lab.results().runs} == {
        ("0.001", "0"), ("0.001", "1")}


@pytest.mark.parametrize("words", [("--status",), ("--join",), ("--set", "seed=1"), ("--retry-failed",)])
def test_a_removal_is_a_request_of_its_own(words: tuple[str, ...], sweep: Sweep) -> None:
    outcome = sweep("smoke.yaml", "--remove", "1", *words)
    assert outcome.code == 2
    assert "--remove is a request of its own" in outcome.err


def test_runs_beside_others_are_announced_before_they_are_added(lab: Any, done: Callable[..., None],
                                                                sweep: Sweep) -> None:
    done(GRID)
    spec = lab.spec(GRID, epochs=1)
    said = ("note: study tiny: adds 4 runs beside 4 runs that are not asked for now and stay "
            "(epochs=2 beside epochs=1)\n")
    shown = sweep(spec, "--set", "epochs=2", "--dry-run")
    assert (shown.code, said in shown.out) == (0, True), shown.out
    assert len(names(lab)) == 4
    added = sweep(spec, "--set", "epochs=2", "--workers", 0)
    assert said in added.out
    assert added.out.index(said) < added.out.index("study tiny: 8 runs, 4 of them new")
    assert "note" not in sweep(spec, "--dry-run").out
    assert "note" not in sweep(spec, "--where", "seed=0", "--workers", 0).out  # it adds nothing


def test_a_dry_run_tells_what_the_real_run_would_refuse(
    lab: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("TORCH_HOME", "HF_HOME", "INVERSION_DATA"):
        monkeypatch.setenv(name, str(lab.folder / "nothing"))
    before = sorted(lab.folder.rglob("*"))
    shown = sweep("grid.yaml", "--where", "encoder=vgg16", "--set", "lpips_weights=/no/alex.pth", "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    notes = [line for line in shown.out.splitlines() if line.startswith("note: the real run would refuse: ")]
    assert sum("inversion data div2k" in line for line in notes) == 1
    assert sum("ImageNet weights of vgg16 " in line and "unreachable" in line for line in notes) == 1
    assert sum("/no/alex.pth" in line for line in notes) == 1
    shown = sweep("smoke.yaml", "--set", "data=/no/such/folder", "--dry-run")
    assert (shown.code, "would refuse: data: no folder /no/such/folder" in shown.out) == (0, True)
    assert "refuse" not in sweep("smoke.yaml", "--dry-run").out
    assert sorted(lab.folder.rglob("*")) == before


def test_a_dry_run_tells_that_a_search_does_not_fit_a_study_of_that_name(queued: Callable[..., None], sweep: Sweep,
                                                                        lab: Any) -> None:
    queued(GRID)
    search = lab.spec("search: {metric: best/val_psnr, trials: 3, sampler: random, space: {decoder: [wavelet]}}")
    shown = sweep(search, "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    assert "note: the real run would refuse: study tiny is a grid, and this spec is a search." in shown.out
