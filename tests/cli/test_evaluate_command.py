"""``inversion evaluate``: a finished run scored again, with the numbers that it logged, or on other photographs."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torchvision.transforms.v2 import CenterCrop, Resize  # type: ignore[import-untyped]

from inversion.data.content import opened
from inversion.data.folder import photo_set
from inversion.training.evaluate import evaluate

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]


@pytest.fixture
def evaluated(all_runs: Runs) -> Callable[[], Run]:
    """``evaluated()``: the one evaluation in the workplace's store."""

    def find() -> Run:
        run, = (run for run in all_runs() if run.data.tags.get("inversion.kind") == "evaluation")
        return run

    return find


def per_image(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        Path(run.info.artifact_uri) / "metrics" / "test_per_image.parquet").to_pylist()
    return rows


def scores_of(run: Run) -> dict[str, float]:
    return {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}



def flat_folder(folder: Path) -> Path:
    """Seven photographs of several sizes, which are split 70/15/15: one of them is for the test."""
    folder.mkdir()
    chance = np.random.default_rng(8)
    for number in range(7):
        values = Image.fromarray(chance.integers(0, 256, (5, 7, 3), dtype=np.uint8))
        values.resize((90 + number, 60), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def test_a_run_scores_again_what_it_logged__every_image_bit_by_bit(
        trained: Run, inversion: Command, evaluated: Callable[[], Run]) -> None:
    """The run was trained and scored by another process."""
    outcome = inversion("evaluate", trained.info.run_id)
    assert outcome.code == 0, outcome.err
    again = evaluated()
    assert "test/lpips" in trained.data.metrics
    assert scores_of(again) == scores_of(trained)
    # the mean colour of the training images is known to the training alone
    logged = [row | {"floor_training_colour_psnr": None} for row in per_image(trained)]
    assert per_image(again) == logged
    assert len(per_image(again)) == 3
    assert "all 3 images score exactly as logged (PSNR (dB), SSIM, LPIPS, feature cosine, feature error)" in outcome.out
    assert outcome.out.count("+0.000000") == 5


def test_an_evaluation_is_a_run_below_the_run(trained: Run, inversion: Command, evaluated: Callable[[], Run],
                                              photo_folder: Path) -> None:
    assert inversion("evaluate", trained.info.run_id).code == 0
    run = evaluated()
    assert (run.info.status, run.info.experiment_id) == ("FINISHED", trained.info.experiment_id)
    assert run.info.run_name == f"evaluate {trained.info.run_name} on my photos"
    tags = run.data.tags
    assert tags["inversion.evaluates"] == tags["mlflow.parentRunId"] == trained.info.run_id
    assert "inversion.digest" not in tags, "it must not pass for a run of that configuration"
    assert run.data.params["encoder"] == trained.data.params["encoder"]
    assert run.data.params["split"] == "test"
    assert run.inputs is not None
    assert trained.inputs is not None
    entry, = run.inputs.dataset_inputs
    assert entry.dataset.digest == trained.inputs.dataset_inputs[0].dataset.digest
    assert {tag.key: tag.value for tag in entry.tags} == {"mlflow.data.context": "evaluation"}
    names = [file.path for file in MlflowClient().list_artifacts(run.info.run_id, "reconstructions")]
    assert len(names) == 3
    assert {"eval_seconds", "inference_ms_per_image", "eval_peak_memory_mb"} <= run.data.metrics.keys()


def test_photographs_that_were_moved_are_known_by_their_content(
        trained: Run, inversion: Command, evaluated: Callable[[], Run], photo_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(photo_folder, tmp_path / "moved")
    outcome = inversion("evaluate", trained.info.run_id[:8], "--data", str(tmp_path / "moved"))
    assert "all 3 images score exactly as logged" in outcome.out, outcome.err
    assert scores_of(evaluated()) == scores_of(trained)


def test_other_photographs_are_scored_on_their_test_split(
        trained: Run, inversion: Command, evaluated: Callable[[], Run], tmp_path: Path) -> None:
    """The reference: MLflow's own loading of the model, torchvision's transforms, scikit-image's PSNR."""
    folder = flat_folder(tmp_path / "others")
    outcome = inversion("evaluate", trained.info.run_id, "--data", str(folder))
    assert outcome.code == 0, outcome.err
    photo, = photo_set(folder, tmp_path / "index").splits["test"]
    with opened(photo.path) as file, Image.open(file) as image:
        crop = np.asarray(CenterCrop(32)(Resize(37, antialias=True)(image)), np.float32) / 255
    model = mlflow.pyfunc.load_model(f"runs:/{trained.info.run_id}/model")
    reconstruction = model.predict(crop.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
    run = evaluated()
    assert [row["image"] for row in per_image(run)] == [photo.name]
    psnr = peak_signal_noise_ratio(crop, reconstruction, data_range=1)  # type: ignore[no-untyped-call]
    assert run.data.metrics["test/psnr"] == pytest.approx(psnr, abs=1e-4)
    assert "logged: its test images, my photos" in " ".join(outcome.out.split())
    assert "exactly as logged" not in outcome.out


def test_some_of_the_test_images_are_compared_with_the_same_ones(
        trained: Run, inversion: Command, evaluated: Callable[[], Run]) -> None:
    outcome = inversion("evaluate", trained.info.run_id, "--test-limit", "2")
    assert outcome.code == 0, outcome.err
    rows = per_image(trained)[:2]
    assert [row["image"] for row in per_image(evaluated())] == [row["image"] for row in rows]
    assert evaluated().data.metrics["test/psnr"] == pytest.approx(np.mean([row["psnr"] for row in rows]), abs=1e-6)
    assert f"{np.mean([row['psnr'] for row in rows]):.4f}" in outcome.out


def test_another_split_can_be_scored(trained: Run, inversion: Command, evaluated: Callable[[], Run]) -> None:
    assert inversion("evaluate", trained.info.run_id, "--split", "val").code == 0
    run = evaluated()
    assert [row["image"] for row in per_image(run)] == ["val/val0.png", "val/val1.png"]
    epoch = int(trained.data.metrics["best_epoch"]) - 1
    history = MlflowClient().get_metric_history(trained.info.run_id, "val/psnr")
    assert run.data.metrics["test/psnr"] == pytest.approx(history[epoch].value, abs=1e-6)


def test_a_run_of_the_published_protocol_scores_what_it_logged(
        train: Command, inversion: Command, all_runs: Runs, evaluated: Callable[[], Run]) -> None:
    assert train(protocol="published").code == 0
    run, = all_runs()
    assert "exactly as logged" in inversion("evaluate", run.info.run_id).out
    assert scores_of(evaluated()) == scores_of(run)


def test_photographs_that_changed_are_refused_unless_they_are_asked_for(
        train: Command, inversion: Command, all_runs: Runs, photo_folder: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(photo_folder, tmp_path / "changing"))
    assert train(data=data).code == 0
    run, = all_runs()
    shutil.copy(data / "test" / "test0.png", data / "test" / "test1.png")
    refused = inversion("evaluate", run.info.run_id)
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert "are not those that run" in refused.err
    assert f"--data {data}" in refused.err
    assert len(all_runs()) == 1
    assert inversion("evaluate", run.info.run_id, "--data", str(data)).code == 0
    shutil.rmtree(data)
    gone = inversion("evaluate", run.info.run_id)
    assert gone.code == 2
    assert gone.err.count("\n") == 1
    assert "are no longer at" in gone.err
    assert "--data FOLDER" in gone.err


def test_lpips_is_left_out_when_its_weights_are_gone__and_said(
        trained: Run, inversion: Command, all_runs: Runs, tmp_path: Path) -> None:
    trunk = Path(trained.data.params["lpips_weights"])
    try:
        trunk.rename(trunk.with_name("hidden.pth"))
        without = inversion("evaluate", trained.info.run_id)
        given = inversion("evaluate", trained.info.run_id, "--lpips-weights", str(trunk.with_name("hidden.pth")))
    finally:
        trunk.with_name("hidden.pth").rename(trunk)
    assert "note: no LPIPS" in without.out
    assert "all 3 images score exactly as logged (PSNR (dB), SSIM, feature cosine, feature error)" in without.out
    assert "all 3 images score exactly as logged (PSNR (dB), SSIM, LPIPS, feature cosine, feature error)" in given.out
    last, first = (run for run in all_runs() if run.data.tags["inversion.kind"] == "evaluation")
    assert "test/lpips" not in first.data.metrics
    assert last.data.metrics["test/lpips"] == trained.data.metrics["test/lpips"]


def test_a_difference_is_told(trained: Run, inversion: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    original = evaluate

    def worse(*arguments: Any, **named: Any) -> Any:
        scores = original(*arguments, **named)
        scores.psnr[1] += 0.25
        return scores

    monkeypatch.setattr("inversion.runs.evaluate.evaluate", worse)
    outcome = inversion("evaluate", trained.info.run_id)
    assert "1 of 3 images do not score exactly as logged: PSNR (dB) by at most 0.25" in " ".join(outcome.out.split())
    assert "+0.083333" in outcome.out


def test_an_interrupted_evaluation_is_killed(trained: Run, inversion: Command, evaluated: Callable[[], Run],
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    original = evaluate

    def interrupted(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    monkeypatch.setattr("inversion.runs.evaluate.evaluate", interrupted)
    assert inversion("evaluate", trained.info.run_id).code == 130
    assert evaluated().info.status == "KILLED"
    assert evaluated().data.tags["inversion.failure"] == "interrupted"


def test_all_runs_of_a_study_are_scored_once_and_one_that_fails_does_not_stop_the_others(
        trained: Run, inversion: Command, all_runs: Runs, tmp_path: Path) -> None:
    client, place = MlflowClient(), trained.info.experiment_id
    client.create_run(place, tags={"inversion.kind": "study", "inversion.study": "made"})
    client.set_tag(trained.info.run_id, "inversion.study", "made")
    names = ("inversion.kind", "inversion.config", "inversion.digest")
    empty = client.create_run(place, run_name="a run without a model", tags={
        "inversion.study": "made", **{name: trained.data.tags[name] for name in names}})
    client.set_terminated(empty.info.run_id)
    words = ("evaluate", "--study", "made", "--data", str(flat_folder(tmp_path / "holiday")), "--split", "all")
    outcome = inversion(*words)
    assert outcome.code == 1, outcome.err
    first, second, *_, last = outcome.out.splitlines()
    assert first.startswith(f"[1/2] a run without a model: failed: artifact_missing: run {empty.info.run_id} has no")
    assert second.startswith(f"[2/2] {trained.info.run_name}: PSNR (dB) ")
    assert last.startswith("study made on holiday, 7 images: 1 scored, 0 had been scored before, 1 failed.")
    again = inversion(*words)
    assert f"{second[:-1]}, scored before)" in again.out
    of: dict[str, list[tuple[str, str | None]]] = {run.info.run_id: [] for run in (trained, empty)}
    for run in all_runs():
        if run.data.tags.get("inversion.kind") == "evaluation":
            of[run.data.tags["inversion.evaluates"]].append((run.info.status, run.data.tags.get("inversion.failure")))
    assert of == {trained.info.run_id: [("FINISHED", None)], empty.info.run_id: [("FAILED", "artifact_missing")] * 2}
