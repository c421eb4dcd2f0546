"""A folder of runs that was copied to another machine: its database still has the addresses of the first one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as repositories
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service import utils as tracking_service
from PIL import Image

from inversion.tracking import artifacts
from inversion.training.trainer import Trainer

Command = Callable[..., Any]
OLD = "/no/such/machine/study"


@pytest.fixture(autouse=True)
def another_process() -> Iterator[None]:
    """MLflow and we remember where artifacts lie for the life of a process."""
    repositories_before = dict(repositories._registry)
    artifacts._moves.clear()
    tracking_service._artifact_repos_cache.clear()
    yield
    artifacts._moves.clear()
    tracking_service._artifact_repos_cache.clear()
    repositories._registry.update(repositories_before)


@pytest.fixture
def copied(finished: Any, workplace: Path) -> Run:
    """The finished run, in a copy of its folder whose first place is on no machine."""
    shutil.copy(finished.folder / "mlflow.db", workplace)
    shutil.copytree(finished.folder / "mlruns", workplace / "mlruns")
    with closing(sqlite3.connect(workplace / "mlflow.db")) as database, database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri"),
                              ("logged_models", "artifact_location")):
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", (str(finished.folder), OLD))
    run = MlflowClient(f"sqlite:///{workplace}/mlflow.db").get_run(finished.run.info.run_id)
    assert run.info.artifact_uri.startswith(OLD)
    return run


@pytest.fixture
def elsewhere(copied: Run, workplace: Path, tmp_path: Path) -> Path:
    """The copy's artifacts, where nobody would look for them."""
    (workplace / "mlruns").rename(tmp_path / "artifacts")
    return tmp_path / "artifacts"


def kill(run: Run, workplace: Path) -> None:
    """Makes a run one that was interrupted."""
    MlflowClient(f"sqlite:///{workplace}/mlflow.db").set_terminated(run.info.run_id, "KILLED")


def test_its_model_and_scores_are_found_beside_the_database(
        copied: Run, inversion: Command, workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = len(list((workplace / "mlruns").rglob("test_per_image.parquet")))  # other tests evaluated it too
    outcome = inversion("evaluate", copied.info.run_id)
    assert outcome.code == 0, outcome.err
    assert "all 3 images score exactly as logged" in outcome.out
    assert [record.getMessage() for record in caplog.records if record.name == artifacts.__name__] == [
        f"using artifacts in {workplace}: they are not in {OLD}, where the tracking store says"]
    after = len(list((workplace / "mlruns").rglob("test_per_image.parquet")))
    assert after == before + 1, "the evaluation's are here too"
    assert not Path(OLD).exists()


def test_its_pictures_can_be_reconstructed(
        copied: Run, inversion: Command, workplace: Path, photo_folder: Path) -> None:
    photo = photo_folder / "test" / "test0.png"
    outcome = inversion("reconstruct", copied.info.run_id, str(photo), "--output", str(workplace / "out"))
    assert outcome.code == 0, outcome.err
    with Image.open(workplace / "out" / "test0_reconstruction.png") as image:
        assert image.size == (32, 32)


def test_an_interrupted_run_goes_on_from_its_checkpoint(
        copied: Run, inversion: Command, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed: list[Path] = []
    original = Trainer.resume

    def resume(trainer: Trainer, checkpoint: Path) -> None:
        resumed.append(checkpoint)
        original(trainer, checkpoint)

    monkeypatch.setattr(Trainer, "resume", resume)
    kill(copied, workplace)
    outcome = inversion("train", "--resume", copied.info.run_id)
    assert outcome.code == 0, outcome.err
    assert len(resumed) == 1
    assert f"reconstructions: {workplace}/mlruns/" in outcome.out.replace("\n", "")
    assert not Path(OLD).exists()


@pytest.mark.parametrize("command", ["evaluate", "reconstruct", "resume"])
def test_artifacts_that_are_nowhere_are_asked_for_in_one_line(
        command: str, copied: Run, elsewhere: Path, inversion: Command, workplace: Path, photo_folder: Path) -> None:
    words = {"evaluate": ["evaluate", copied.info.run_id],
             "reconstruct": ["reconstruct", copied.info.run_id, str(photo_folder / "test"), "--output", "out"],
             "resume": ["train", "--resume", copied.info.run_id]}[command]
    if command == "resume":
        kill(copied, workplace)
    outcome = inversion(*words)
    assert outcome.code == 2
    line, = outcome.err.splitlines()
    assert f"are in {OLD}/mlruns/" in line
    assert line.endswith(f"Copy {OLD}/mlruns here, and set INVERSION_ARTIFACTS={OLD}/mlruns=FOLDER")
    status = MlflowClient(f"sqlite:///{workplace}/mlflow.db").get_run(copied.info.run_id).info.status
    assert status == ("KILLED" if command == "resume" else "FINISHED")


def test_the_environment_says_where_they_are(
        copied: Run, elsewhere: Path, inversion: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_ARTIFACTS", f"/another/place={elsewhere.parent}:{OLD}/mlruns={elsewhere}")
    outcome = inversion("evaluate", copied.info.run_id)
    assert outcome.code == 0, outcome.err
    assert "all 3 images score exactly as logged" in outcome.out


@pytest.mark.parametrize("text", ["folder", "/old=", "/old=/no/such/folder", "old=/tmp"])
def test_what_the_environment_says_wrongly_is_refused(
        text: str, workplace: Path, inversion: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSION_ARTIFACTS", text)
    outcome = inversion("doctor")
    assert outcome.code == 2
    assert f"INVERSION_ARTIFACTS: {text!r} is not allowed. Allowed: OLD=NEW" in outcome.err


def test_artifacts_that_are_where_the_database_says_stay_there(
        finished: Any, inversion: Command, workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A copy beside the first folder, on the same machine."""
    shutil.copy(finished.folder / "mlflow.db", workplace)
    shutil.copytree(finished.folder / "mlruns", workplace / "mlruns")
    assert inversion("evaluate", finished.run.info.run_id).code == 0
    assert not [record for record in caplog.records if record.name == artifacts.__name__]
