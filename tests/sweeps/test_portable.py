"""A study as one file: nothing of it is lost on the way, and it goes on where it was."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from mlflow.entities import Run
from mlflow.utils.file_utils import local_file_uri_to_path
from optuna.trial import TrialState

from inversion.cli.app import run_command
from inversion.cli.report import cli as report_cli
from inversion.cli.study import cli
from inversion.sweeps.queue.storage import open_storage
from inversion.sweeps.study.study import PARENT, TRACKING, open_study
from inversion.training.trainer import Trainer
from tests.sweeps.lab import Lab, Outcome, Results

Sweep = Callable[..., Any]
Study = Callable[..., Outcome]


@pytest.fixture
def study(lab: Lab, capsys: pytest.CaptureFixture[str]) -> Study:
    """``study("export", "tiny", "file")``: the command in this process."""

    def run(*words: object) -> Outcome:
        capsys.readouterr()
        return Outcome(run_command(cli, [str(word) for word in words]), *capsys.readouterr())

    return run


@pytest.fixture
def elsewhere(tmp_path: Path, lab: Lab, make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
              ) -> Callable[[], Lab]:
    """Enters the folder of another machine: what is made from now on is made there."""

    def enter() -> Lab:
        folder = tmp_path / "elsewhere"
        folder.mkdir()
        monkeypatch.chdir(folder)
        return make_lab(folder)

    return enter


def stores(lab: Lab) -> tuple[str, ...]:
    return "--tracking-uri", f"sqlite:///{lab.folder}/mlflow.db"


def of(lab: Lab, study: str) -> Results:
    found = lab.results()
    return Results(found.client, found.experiment, found.storage, study)


def artifact(run: Run, name: str) -> Path:
    """An artifact where it lies: MLflow's client would look for it in the store that was connected last."""
    return Path(local_file_uri_to_path(run.info.artifact_uri)) / name


def content(results: Results, ids: Mapping[str, str]) -> dict[str, Any]:
    """What MLflow and Optuna have of a study, without what is told by an id or an address."""
    runs = {}
    for run in results.everything:
        names = {name: value for name, value in run.data.tags.items()
                 if not name.startswith(("inversion.storage", "mlflow.parentRunId", "mlflow.note", "mlflow.log-model"))}
        runs[ids.get(run.info.run_id, run.info.run_id)] = {
            "tags": names, "parameters": run.data.params, "status": run.info.status, "start": run.info.start_time,
            "end": run.info.end_time, "name": run.info.run_name,
            "metrics": {key: [(point.value, point.timestamp, point.step)
                              for point in results.client.get_metric_history(run.info.run_id, key)]
                        for key in run.data.metrics},
            "inputs": [item.dataset.to_dictionary() for item in (run.inputs.dataset_inputs if run.inputs else [])]}
    trials = [(trial.state, trial.values, trial.intermediate_values, trial.system_attrs, trial.datetime_start,
               trial.datetime_complete, {name: ids.get(value, value) if name == "mlflow_run" else value
                                         for name, value in trial.user_attrs.items()}) for trial in results.trials]
    return {"runs": runs, "trials": trials}


def stop_after_the_first_epoch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Interrupts the next run when it has closed its first epoch; returns what undoes that."""
    report = Trainer._report_epoch

    def stop(trainer: Trainer, metrics: dict[str, float]) -> None:
        report(trainer, metrics)
        trainer.stop.set("asked by a test")

    monkeypatch.setattr(Trainer, "_report_epoch", stop)
    return lambda: monkeypatch.setattr(Trainer, "_report_epoch", report)


@pytest.mark.acceptance
def test_a_study_that_was_moved_in_the_middle_comes_to_what_it_would_have_come_to(
    lab: Lab, queued: Callable[..., None], work_here: Callable[..., None], sweep: Sweep, study: Study,
    elsewhere: Callable[[], Lab], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    queued("grid:\n  - decoder: [wavelet]", epochs=4)
    work_here()
    queued("grid:\n  - decoder: [wavelet, transposed_conv]", epochs=4)
    resume = stop_after_the_first_epoch(monkeypatch)
    work_here()
    resume()
    before = of(lab, "tiny")
    assert [trial.state for trial in before.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.WAITING]
    file = tmp_path / "tiny.tar.zst"
    outcome = study("export", "tiny", file, *stores(lab))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"study tiny: 3 MLflow runs in {file} (")

    other = elsewhere()
    outcome = study("import", file, *stores(other))
    assert outcome.code == 0, outcome.err
    after = of(other, "tiny")
    by_digest, moved = before.by_digest, after.by_digest
    ids = {moved[digest].info.run_id: run.info.run_id for digest, run in by_digest.items()}
    ids[after.parent.info.run_id] = before.parent.info.run_id
    assert content(after, ids) == content(before, {})
    for run in after.runs:
        assert run.data.tags["mlflow.parentRunId"] == after.parent.info.run_id
        assert str(run.info.artifact_uri).startswith(str(other.folder))
    listed = json.loads(artifact(after.parent, "runs.json").read_text())
    assert listed[0]["run_id"] in ids

    assert sweep("--join", "--study", "tiny", "--workers", 1, *stores(other)).code == 0
    monkeypatch.chdir(lab.folder)
    assert sweep("--join", "--study", "tiny", "--workers", 1, *stores(lab)).code == 0
    for digest, run in of(lab, "tiny").by_digest.items():
        there = of(other, "tiny").by_digest[digest]
        assert there.info.status == run.info.status == "FINISHED"
        one, two = (pd.read_parquet(artifact(each, "metrics/test_per_image.parquet")) for each in (run, there))
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert run_command(report_cli, ["tiny", "--output", str(tmp_path / "report"), *stores(other)]) == 0


def test_a_study_is_imported_beside_another_one_under_another_name_with_other_places(
    lab: Lab, queued: Callable[..., None], study: Study, sweep: Sweep, tmp_path: Path
) -> None:
    queued()
    file = tmp_path / "study.tar.zst"
    assert study("export", "tiny", file).code == 0
    refused = study("import", file)
    assert refused.code == 2
    assert "has a study tiny already. Give the imported one another name with --study." in refused.err
    moved = tmp_path / "moved"
    moved.symlink_to(lab.photos)
    outcome = study("import", file, "--study", "copy", "--set", f"data={moved}", "--set", "threads=1")
    assert outcome.code == 0, outcome.err
    copy = of(lab, "copy")
    assert [trial.user_attrs["config"]["data"] for trial in copy.trials] == [str(moved)] * 2
    assert [trial.user_attrs["digest"] for trial in copy.trials] == [
        trial.user_attrs["digest"] for trial in of(lab, "tiny").trials]
    outcome = sweep("--join", "--study", "copy", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert {trial.state for trial in of(lab, "copy").trials} == {TrialState.COMPLETE}
    assert {trial.state for trial in of(lab, "tiny").trials} == {TrialState.WAITING}


KEPT = {
    "scores": {"config.json", "metrics"}, "pictures": {"config.json", "metrics", "reconstructions"},
    "best": {"config.json", "metrics", "reconstructions", "checkpoints"},
    "all": {"config.json", "metrics", "reconstructions", "checkpoints", "images", "logs"},
}


def test_of_finished_runs_only_what_is_wanted_is_kept(
    lab: Lab, queued: Callable[..., None], work_here: Callable[..., None], study: Study, tmp_path: Path
) -> None:
    queued("grid:\n  - decoder: [wavelet]", epochs=1)
    work_here()
    run, = lab.results().runs
    for keep, kept in KEPT.items():
        file = tmp_path / f"{keep}.tar.zst"
        assert study("export", "tiny", file, "--keep", keep).code == 0
        with pa.input_stream(str(file), compression="zstd") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            names = [name.removeprefix(f"runs/{run.info.run_id}/artifacts/") for name in tar.getnames()
                     if name.startswith(f"runs/{run.info.run_id}/artifacts/")]
        assert {name.partition("/")[0] for name in names} == kept, keep
        assert ("checkpoints/best.pt" in names) == (keep in ("best", "all"))
        assert ("checkpoints/last.pt" in names) == (keep == "all")


def test_a_study_that_is_worked_on_is_not_exported(lab: Lab, queued: Callable[..., None], study: Study, tmp_path: Path
                                                   ) -> None:
    queued()
    claimed = open_study(open_storage(f"sqlite:///{lab.folder}/inversion-queue.db"), "tiny").queue.claim()
    assert claimed
    outcome = study("export", "tiny", tmp_path / "file")
    assert outcome.code == 2
    assert f"study tiny is being worked on: 1 running, such as {claimed.name}." in outcome.err
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(("data", "message"), [
    (b"no archive", "cannot be read: it is not an exported study"), (None, "cannot be read: No such file or dir")])
def test_a_file_that_is_no_study_is_told_in_one_line(
    data: bytes | None, message: str, study: Study, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    if data is not None:
        file.write_bytes(data)
    outcome = study("import", file)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(("place", "message"), [
    ("epochs=3", "--set epochs: only data, data_dir,"), ("data", "--set data: NAME=VALUE is needed"),
    ("threads=no", "threads: 'no' is not allowed")])
def test_only_places_can_be_replaced(place: str, message: str, study: Study, tmp_path: Path) -> None:
    outcome = study("import", tmp_path / "file", "--set", place)
    assert outcome.code == 2
    assert message in outcome.err


def test_a_name_inside_an_archive_cannot_leave_the_folder(lab: Lab, study: Study, tmp_path: Path) -> None:
    file = tmp_path / "evil.tar.zst"
    with pa.output_stream(str(file), compression="zstd") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"))
    outcome = study("import", file)
    assert outcome.code == 2
    assert "it is not an exported study" in outcome.err
    assert not list(tmp_path.rglob("evil"))


def test_the_queue_names_the_parent_and_the_store_of_here(
    queued: Callable[..., None], study: Study, elsewhere: Callable[[], Lab], tmp_path: Path
) -> None:
    queued()
    file = tmp_path / "study.tar.zst"
    assert study("export", "tiny", file).code == 0
    other = elsewhere()
    assert study("import", file, *stores(other)).code == 0
    found = optuna.load_study(study_name="tiny", storage=other.results().storage)
    assert found.user_attrs[TRACKING] == f"sqlite:///{other.folder}/mlflow.db"
    assert found.user_attrs[PARENT] == other.results().parent.info.run_id
