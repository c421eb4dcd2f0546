"""``inversion-sweep`` as a user meets it: from a file to a leaderboard, again, larger, wrong and failing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from inversion.report.best_run import find_best
from inversion.report.data.collect import collect
from inversion.runs.train import train_steps
from inversion.sweeps import actions
from inversion.sweeps.workers import worker as worker_module
from inversion.sweeps.workers.local import Processes
from inversion.tracking.connection import connect
from inversion.tracking.store_errors import TrackingLostError

GRID = "grid:\n  - decoder: [transposed_conv, wavelet]"
Sweep = Callable[..., Any]


@pytest.mark.usefixtures("worker_processes")
def test_a_study_goes_from_its_file_to_its_leaderboard(lab: Any, sweep: Sweep) -> None:
    outcome = sweep(lab.spec(GRID))
    assert (outcome.code, outcome.err) == (0, ""), outcome.out
    assert "study tiny: 2 runs, 2 of them new" in outcome.out
    assert "[2/2] vgg16:block1+wavelet: test PSNR" in outcome.out
    left = lab.results()
    parent = left.parent
    assert {run.info.status for run in left.everything} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in left.runs} == {parent.info.run_id}
    assert {run.data.tags["inversion.study"] for run in left.everything} == {"tiny"}
    assert parent.data.tags["inversion.runs"] == "2 finished"
    files = {item.path for item in left.client.list_artifacts(parent.info.run_id)}
    assert files == {"tiny.yaml", "settings.json", "runs.json", "leaderboard.csv"}
    board = Path(left.client.download_artifacts(parent.info.run_id, "leaderboard.csv")).read_text().splitlines()
    best = max(left.runs, key=lambda run: run.data.metrics["test/psnr"])
    assert board[1].startswith(f"1,{best.info.run_name},{best.data.metrics['test/psnr']}")
    runs = json.loads(Path(left.client.download_artifacts(parent.info.run_id, "runs.json")).read_text())
    assert {run["digest"] for run in runs} == left.by_digest.keys()
    assert not list((Path(runs[0]["config"]["data_dir"]) / "runs").glob("*"))  # checkpoints are with MLflow


def test_what_is_finished_is_not_run_again_and_a_larger_spec_adds_what_is_new(
    lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[[], None]
) -> None:
    queued(GRID)
    work_here()
    before = {run.info.run_id: run.info.end_time for run in lab.results().runs}
    again = sweep(lab.spec(GRID + "\n    seed: [0, 1]"))
    assert again.code == 0
    assert "study tiny: 4 runs, 2 of them new" in again.out
    left = lab.results()
    assert len(left.by_digest) == 4
    assert {run.info.run_id: run.info.end_time for run in left.runs if run.info.run_id in before} == before
    assert [trial.state for trial in left.trials] == [TrialState.COMPLETE] * 4


def test_a_queue_that_was_lost_finds_what_is_finished_in_mlflow(
    lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued(GRID)
    work_here()
    for file in lab.folder.glob("inversion-queue.db*"):
        file.unlink()
    assert sweep(lab.spec(GRID), "--workers", 0).code == 0
    monkeypatch.setattr(worker_module, "train_steps", lambda *_: pytest.fail("it was trained again"))
    work_here()
    assert [trial.state for trial in lab.results().trials] == [TrialState.COMPLETE] * 2
    assert len(lab.results().by_digest) == 2


def test_a_configuration_s_numbers_do_not_depend_on_order_or_neighbours(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], sweep: Sweep, tmp_path: Path,
    make_lab: Callable[..., Any], enter_workplace: Callable[..., None],
) -> None:
    queued("grid:\n  - decoder: [transposed_conv, wavelet]\n    seed: [0, 1]")
    work_here()
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path / "alone"
        folder.mkdir()
        enter_workplace(folder, patch)
        alone = make_lab(folder)
        outcome = sweep(alone.spec("grid:\n  - {decoder: wavelet, seed: 1}"))
    assert outcome.code == 0, outcome.err
    (digest, run), = alone.results().by_digest.items()
    other = lab.results().by_digest[digest]
    assert run.data.metrics["test/psnr"] == other.data.metrics["test/psnr"]
    assert alone.results().history(run, "val/loss") == lab.results().history(other, "val/loss")


def test_one_that_fails_does_not_stop_the_others_and_can_be_tried_again(
    lab: Any, sweep: Sweep, queued: Callable[..., None], work_here: Callable[[], None]
) -> None:
    queued()

    def fail_first(prepared: Any, *rest: Any) -> Any:
        if prepared.plan.config.decoder == "transposed_conv":
            raise RuntimeError("the cable was pulled")
        return train_steps(prepared, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_module, "train_steps", fail_first)
        work_here()
    outcome = sweep("--join", "--study", "tiny", "--tracking-uri", f"sqlite:///{lab.folder}/mlflow.db")
    assert outcome.code == 1
    assert "1 of 2 runs failed" in outcome.out
    assert "RuntimeError: the cable was pulled" in outcome.out
    assert lab.results().parent.info.status == "FAILED"
    retried = sweep(lab.spec(GRID), "--retry-failed")
    assert retried.code == 0, retried.err
    assert "retrying 1 failed run" in retried.out
    assert {run.info.status for run in lab.results().everything} == {"FINISHED"}


def test_a_tracking_store_that_is_lost_for_a_moment_costs_nothing(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    queued()
    losses = 0

    def lose_twice(*arguments: Any) -> Any:
        nonlocal losses
        losses += 1
        if losses <= 2:
            raise TrackingLostError("died in the middle of an answer")
        return train_steps(*arguments)

    monkeypatch.setattr(worker_module, "train_steps", lose_twice)
    work_here()
    left = lab.results()
    assert [run.info.status for run in left.runs] == ["FINISHED"] * 2
    released = [trial for trial in left.trials if "released" in trial.user_attrs]
    assert len(released) == 2


def test_memory_that_runs_out_is_tagged_and_what_never_fits_fails_alone(
    lab: Any, queued: Callable[..., None], work_here: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from inversion.losses.reconstruction import ReconstructionLoss

    queued("grid:\n  - {decoder: wavelet, seed: 7}\n"
           "  - decoder: [transposed_conv, wavelet]\n    batch_size: [2, 4]")
    original, room = ReconstructionLoss.forward, 2

    def train_in_little_room(prepared: Any, *rest: Any) -> Any:
        nonlocal room
        room = 0 if prepared.plan.config.seed == 7 else 2
        return train_steps(prepared, *rest)

    def hungry(loss: ReconstructionLoss, images: torch.Tensor, *rest: Any) -> Any:
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return original(loss, images, *rest)

    monkeypatch.setattr(ReconstructionLoss, "forward", hungry)
    monkeypatch.setattr(worker_module, "train_steps", train_in_little_room)
    work_here()
    runs = [run for run in lab.results().runs if run.data.params["seed"] != "7"]
    never, = (run for run in lab.results().runs if run.data.params["seed"] == "7")
    assert (never.info.status, never.data.tags["inversion.failure"]) == ("FAILED", "oom")
    assert "out of memory" in never.data.tags["inversion.failure_message"]
    assert [trial.user_attrs.get("failure") for trial in lab.results().trials] == ["oom", None, None, None, None]
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {(run.data.params["batch_size"], run.data.tags.get("inversion.micro_batch")) for run in runs} == {
        ("2", None), ("4", "2")}


def test_a_search_optimises_a_validation_metric_prunes_and_grows(lab: Any, sweep: Sweep) -> None:
    search = ("search:\n  metric: best/val_psnr\n  trials: {}\n  sampler: random\n"
              "  pruner: {{name: median, n_startup_trials: 1, n_warmup_steps: 0}}\n"
              "  space:\n    decoder: [transposed_conv, wavelet]\n    lr: {{low: 1e-6, high: 1e-2, log: true}}")
    assert sweep(lab.spec(search.format(3), epochs=4, lr=None)).code == 0
    grown = sweep(lab.spec(search.format(6), epochs=4, lr=None))
    assert grown.code == 0, grown.err
    assert "study tiny: 6 runs, 3 of them new" in grown.out
    left = lab.results()
    done = [trial for trial in left.trials if trial.state == TrialState.COMPLETE]
    assert len(left.trials) == 6
    for trial in done:
        run = left.client.get_run(trial.user_attrs["mlflow_run"])
        assert trial.value == run.data.metrics["best/val_psnr"]
        assert float(run.data.params["lr"]) == pytest.approx(trial.params["lr"])
        assert trial.intermediate_values == dict(left.history(run, "val/psnr"))
    pruned = [trial for trial in left.trials if trial.state == TrialState.PRUNED]
    assert len(done) + len(pruned) == 6
    data = collect(connect(f"sqlite:///{lab.folder}/mlflow.db"), "tiny")
    assert (len(data.runs), data.missing) == (6, [])
    assert {item["digest"] for item in data.planned} == {run.tags["inversion.digest"] for run in data.runs}
    assert data.settings == ["tiny.yaml"]
    assert pruned, "with this seed some are"
    for trial in pruned:
        run = left.client.get_run(trial.user_attrs["mlflow_run"])
        assert (run.info.status, run.data.tags["inversion.failure"]) == ("KILLED", "pruned")
        assert trial.last_step < 4

    best = max(done, key=lambda trial: trial.value)
    tested = left.client.get_run(best.user_attrs["mlflow_run"]).data.metrics["test/psnr"]
    board = pd.read_csv(left.client.download_artifacts(left.parent.info.run_id, "leaderboard.csv"))
    assert list(board.columns) == ["rank", "trial", "best/val_psnr", "decoder", "lr", "state", "test/psnr", "test/ssim",
                                   "test/lpips", "run_id"]
    assert list(board["trial"][:len(done)]) == [trial.number for trial in sorted(done, key=lambda one: -one.value)]
    assert list(board["state"]) == ["finished"] * len(done) + ["pruned"] * len(pruned)
    assert board["rank"].notna().sum() == len(done)
    assert board["test/psnr"].dropna().tolist() == pytest.approx([tested])
    shown = sweep("--status", "--study", "tiny")
    for out in (grown.out, shown.out):
        table = out[out.index("Leaderboard of the search by best/val_psnr (higher is better)"):]
        rows = [line.split() for line in table.splitlines()[2:]]
        assert rows[0] == ["1", str(best.number), f"{best.value:.2f}", "dB", best.params["decoder"],
                           f"{best.params['lr']:#.3g}", "finished"]
        assert [row[-1] for row in rows[:6]] == ["finished"] * len(done) + ["pruned"] * len(pruned)
        assert f"best: trial {best.number} (decoder={best.params['decoder']}, " in table
        assert table.count("PSNR") == 1  # the test score of the best alone
        assert f"PSNR {tested:.2f} dB" in table
    connection = connect(f"sqlite:///{lab.folder}/mlflow.db")
    assert find_best(connection, "tiny") == best.user_attrs["mlflow_run"]
    note = left.client.get_run(left.parent.info.run_id).data.tags["mlflow.note.content"]
    tested_cells = [line.split("|")[3].strip() for line in note.splitlines() if line.startswith("| [")]
    assert tested_cells == [f"{tested:.2f}", *[""] * (min(len(done), 5) - 1)]


def test_the_study_s_run_keeps_how_it_was_asked_for_each_time(lab: Any, queued: Callable[..., None]) -> None:
    queued(GRID, "--where", "decoder=wavelet")
    queued(GRID, "--where", "decoder=wavelet")
    queued(GRID, "--set", "lr=0.01", "--set", "seed=[1, 2]")
    data = collect(connect(f"sqlite:///{lab.folder}/mlflow.db"), "tiny")
    assert data.settings == ["tiny.yaml --where decoder=wavelet", "tiny.yaml --set lr=0.01 --set 'seed=[1, 2]'"]


def test_a_worker_that_would_log_elsewhere_is_refused(lab: Any, queued: Callable[..., None], sweep: Sweep) -> None:
    queued()
    shutil.copy(lab.folder / "mlflow.db", lab.folder / "other.db")
    outcome = sweep("--join", "--study", "tiny", "--storage", f"{lab.folder}/inversion-queue.db",
                    "--tracking-uri", f"sqlite:///{lab.folder}/other.db")
    assert outcome.code == 2
    assert f"study tiny logs to sqlite:///{lab.folder}/mlflow.db" in outcome.err


def test_a_study_keeps_its_queue(lab: Any, queued: Callable[..., None], sweep: Sweep) -> None:
    queued(GRID, "--storage", f"{lab.folder}/elsewhere.db")
    assert "2 queued" in sweep("--status", "--study", "tiny").out  # found by its tag in the tracking store
    outcome = sweep(lab.spec(GRID), "--storage", f"{lab.folder}/second.db", "--workers", 0)
    assert outcome.code == 2
    assert "has its queue in" in outcome.err


@pytest.mark.parametrize(("words", "said"), [
    ((), "give a SPEC"),
    (("--status",), "give a SPEC"),
    (("smok.yaml",), "Did you mean 'smoke.yaml'"),
    (("smoke.yaml", "--set", "epoch=2"), "Did you mean 'epochs'"),
    (("smoke.yaml", "--join", "--status"), "give one"),
    (("smoke.yaml", "--storage", "mysql://root@h/db"), "mysql://root@h/db"),
    (("--status", "--study", "nothing"), "has no study"),
    (("--status", "--study", "it's"), "is not a valid name"),
    (("--join", "--study", "no/name"), "is not a valid name"),
    (("smoke.yaml", "--workers", "-1"), "--workers"),
    (("smoke.yaml", "--workers", "99999999999"), "--workers"),
    (("smoke.yaml", "--ray", "auto", "--gpus-per-run", "nan"), "--gpus-per-run': nan is not a finite number"),
    (("smoke.yaml", "--ray", "auto", "--gpus-per-run", "1e-300"), "more than 1024 workers on a GPU"),
    (("smoke.yaml", "--set", "threads=99999999999"), "threads: '99999999999' is not allowed"),
    (("smoke.yaml", "--workers", "0", "--set", "device=cuda:1"), "device=cuda:1: each worker has one GPU"),
])
def test_what_was_typed_wrong_is_told_in_one_line(words: tuple[str, ...], said: str, sweep: Sweep) -> None:
    outcome = sweep(*words)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_strict_sweep_tells_everything_that_is_out_of_reach_before_anything_is_queued(
    lab: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(lab.folder / "torch"))
    monkeypatch.setenv("HF_HOME", str(lab.folder / "hf"))
    monkeypatch.setenv("INVERSION_DATA", str(lab.folder / "data"))
    outcome = sweep("grid.yaml")
    assert outcome.code == 2
    lines = outcome.err.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    for encoder in ("vgg16", "resnet34", "vit_small", "pvt_v2_b2"):
        assert sum(f"weights of {encoder} " in line for line in lines) == 1
    assert sum("inversion data div2k" in line for line in lines) == 1
    assert "inversion-sweep smoke.yaml" in lines[-1]
    client = connect(f"sqlite:///{lab.folder}/mlflow.db").client
    assert not MlflowClient(client.tracking_uri).search_runs(["0", "1"])
    assert not (lab.folder / "inversion-queue.db").exists()


def test_a_time_limit_stops_a_sweep_in_time_and_the_same_command_resumes_it(
    lab: Any, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = lab.spec("grid:\n  - decoder: [transposed_conv, wavelet]")
    with monkeypatch.context() as patch:
        patch.setattr(actions, "Processes", Processes)
        outcome = sweep(spec, "--time-limit", "0.2s")
    assert outcome.code == 130
    assert "the time limit is reached (0:00:00.200000)" in outcome.err
    assert {trial.state for trial in lab.results().trials} <= {TrialState.WAITING, TrialState.FAIL}
    assert sweep(spec, "--time-limit", "1:00:00").code == 0


@pytest.mark.parametrize("text", ["8", "h", "0s", "-5m", "8:0:0", "1:60:00", "8 hours", "1e3h", "inf"])
def test_a_time_limit_is_a_duration(text: str, lab: Any, sweep: Sweep) -> None:
    outcome = sweep(lab.spec("grid:\n  - decoder: [wavelet]"), "--time-limit", text)
    assert outcome.code == 2
    assert f"{text!r} is not a duration. Allowed: a number above 0 with s, m, h or d" in outcome.err
