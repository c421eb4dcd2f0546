"""What a finished run leaves in MLflow, name by name, and that it can be used from there."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import Run

from inversion.config.resolve import resolve
from inversion.config.run_config import RunConfig
from inversion.runs.prepare import build
from inversion.tracking.grouping import GROUPING
from inversion.tracking.ownership import machine_tags

PARAMETERS = {
    "encoder", "layer", "decoder", "fusion", "data", "data_dir", "weights", "lpips_weights", "vgg_weights",
    "metrics", "loss", "loss_weight",
    "protocol", "image_size", "epochs", "batch_size", "crops", "lr", "schedule", "lr_patience", "lr_factor", "min_lr",
    "clip_norm", "patience", "mse_weight", "lpips_weight", "train_limit", "val_limit", "test_limit",
    "decoder_options", "fusion_options", "seed", "device", "precision", "threads", "strict",
}
BY_EPOCH = {"train/loss", "train/mse", "val/loss", "val/mse", "val/psnr", "val/ssim", "lr", "images_per_second"}
AT_THE_END = {
    "test/psnr", "test/psnr_std", "test/ssim", "test/ssim_std", "test/feature_cosine", "test/feature_cosine_std",
    "test/feature_error", "test/feature_error_std", "eval_further_seconds", "floor/training_colour_psnr",
    "floor/mean_colour_psnr", "floor/bicubic_psnr", "best_epoch", "best/val_loss", "best/val_psnr",
    "best/train_loss",
    "epochs_run", "decoder_parameters", "feature_channels", "feature_locations", "encoder_passes", "gflops_per_image",
    "train_seconds", "eval_seconds", "inference_ms_per_image", "train_peak_memory_mb", "eval_peak_memory_mb",
}
LPIPS_BY_EPOCH = {"train/lpips", "val/lpips"}
LPIPS_AT_THE_END = {"test/lpips", "test/lpips_std"}
TAGS = {
    "inversion.kind", "inversion.digest", "inversion.config", "inversion.data", "inversion.protocol",
    "inversion.device", "inversion.host", "inversion.pid", "inversion.process_started",
    "inversion.version.inversion", "inversion.version.torch", "inversion.version.torchvision",
    "inversion.version.timm", "inversion.version.lpips", "inversion.version.mlflow", "inversion.version.python",
    "mlflow.runName", "mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.loggedImages",
    "mlflow.note.content", "inversion.note",
}


def test_a_run_ends_as_finished_under_its_name(finished: Any) -> None:
    assert finished.printed.returncode == 0, finished.printed.stderr
    assert finished.run.info.status == "FINISHED"
    assert finished.run.info.run_name == "vgg16:block1+transposed_conv"


def test_it_prints_its_table_and_scores_and_nothing_of_mlflows(finished: Any) -> None:
    assert finished.printed.stderr == ""
    lines = [line for line in finished.printed.stdout.splitlines() if not line.startswith(("│", "┌", "└"))]
    assert [line.partition(":")[0].strip() for line in lines] == [
        "vgg16", "vgg16", "note", "reconstructions", "start the MLflow UI", "view the run", "compare the runs"]
    assert f" ui --backend-store-uri sqlite:///{finished.folder}/mlflow.db" in lines[-3]
    place = "http://127.0.0.1:5000/#/experiments/1/runs"
    assert lines[-2].endswith(f": {place}/{finished.run.info.run_id}?workflowType=machine_learning")
    assert lines[-1].endswith(f": {place}?workflowType=machine_learning")
    assert "note: no MS-SSIM: its five scales need images of 176 pixels; no LPIPS-VGG, no DISTS: " in lines[2]
    psnr = finished.run.data.metrics["test/psnr"]
    assert f"PSNR {psnr:.3f} ± " in finished.printed.stdout
    assert finished.run.info.run_id in finished.printed.stdout


def test_exactly_the_parameters_of_a_run_are_logged_and_resolved(finished: Any) -> None:
    params = finished.run.data.params
    assert set(RunConfig.model_fields) == PARAMETERS
    assert set(params) == PARAMETERS | set(GROUPING)
    assert (params["layer"], params["fusion"], params["device"]) == ("block1", "none", "cpu")
    assert [params[name] for name in ("encoder", *GROUPING)] == ["vgg16", "vgg16", "block1", "none"]
    assert params["precision"] == "fp32"
    assert (params["lr"], params["strict"], params["image_size"]) == ("0.001", "false", "32")


def test_exactly_these_metrics_are_logged(finished: Any) -> None:
    assert set(finished.run.data.metrics) == BY_EPOCH | AT_THE_END | LPIPS_BY_EPOCH | LPIPS_AT_THE_END
    assert all(math.isfinite(value) for value in finished.run.data.metrics.values())


def test_metrics_by_epoch_have_a_value_a_step_from_1(finished: Any) -> None:
    for name in BY_EPOCH | LPIPS_BY_EPOCH:
        history = finished.client.get_metric_history(finished.run.info.run_id, name)
        assert [metric.step for metric in history] == [1, 2], name
    for name in AT_THE_END | LPIPS_AT_THE_END:
        assert len(finished.client.get_metric_history(finished.run.info.run_id, name)) == 1, name


def test_its_model_is_found_by_parameters_and_final_metrics(finished: Any) -> None:
    run = finished.run
    wanted = "params.decoder = 'transposed_conv' AND metrics.`test/psnr` > 0 AND metrics.`best/val_psnr` > 0"
    model, = finished.client.search_logged_models([run.info.experiment_id], filter_string=wanted)
    assert model.source_run_id == run.info.run_id
    found = {metric.key: metric.value for metric in model.metrics}
    assert {name: found[name] for name in AT_THE_END} == {name: run.data.metrics[name] for name in AT_THE_END}
    assert not finished.client.search_logged_models([run.info.experiment_id], filter_string="metrics.`test/psnr` > 99")


def test_exactly_these_tags_are_set(finished: Any) -> None:
    root = Path(__file__).parents[2]
    tags = finished.run.data.tags
    checked_out = (root / ".git").exists()
    assert set(tags) == TAGS | set(machine_tags()) | ({"inversion.commit"} if checked_out else set())
    if checked_out:
        done = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert tags["inversion.commit"].removesuffix("-dirty") == done.stdout.strip()
    assert (tags["inversion.kind"], tags["inversion.protocol"], tags["inversion.data"]) == ("run", "image", "my photos")
    assert re.fullmatch("[0-9a-f]{32}", tags["inversion.digest"])


def test_the_configuration_is_the_same_in_the_tag_and_in_the_file(finished: Any) -> None:
    assert json.loads(finished.run.data.tags["inversion.config"]) == finished.document
    assert finished.document["digest"] == finished.run.data.tags["inversion.digest"]
    assert set(finished.document["parameters"]) == PARAMETERS
    assert finished.document["data"]["images"] == {"train": 4, "val": 2, "test": 3}


def test_exactly_these_files_are_left(finished: Any) -> None:
    files = {str(file.relative_to(finished.artifacts)) for file in finished.artifacts.rglob("*") if file.is_file()}
    assert {file for file in files if not file.startswith("images/")} == {
        "config.json", "checkpoints/best.pt", "checkpoints/last.pt", "metrics/test_per_image.parquet",
        "reconstructions/1_test_test0.png", "reconstructions/2_test_test1.png", "reconstructions/3_test_test2.png",
        "reconstructions/test.parquet",
    }


def test_reconstructions_are_mlflow_images_of_each_epoch(finished: Any) -> None:
    found = set()
    for file in (finished.artifacts / "images").iterdir():
        match = re.fullmatch(r"((?:best_)?reconstructions~\d_\w+\d)\+step\+(\d)\+timestamp\+\d+\+[0-9a-f-]{36}"
                             r"(\+compressed)?\.(png|webp)", file.name)
        assert match, file.name
        found.add((match[1], int(match[2]), match[4]))
    keys = ("reconstructions~1_val0", "reconstructions~2_val1")
    expected = {(key, step, kind) for key in keys for step in (0, 1, 2) for kind in ("png", "webp")}
    best = int(finished.run.data.metrics["best_epoch"])  # alone, so that the page does not show an earlier step first
    expected |= {(f"best_reconstructions~{number + 1}_test{number}", best, kind) for number in range(3)
                 for kind in ("png", "webp")}
    assert found == expected


def test_no_checkpoint_stays_on_the_machine_when_the_run_is_done(finished: Any) -> None:
    work = Path(finished.run.data.params["data_dir"]) / "runs" / finished.run.info.run_id
    assert work.parent.is_dir()
    assert not work.exists()


def test_the_scores_are_means_and_deviations_of_the_table_of_images(finished: Any) -> None:
    table = pd.read_parquet(finished.artifacts / "metrics" / "test_per_image.parquet")
    assert list(table.columns) == ["image", "psnr", "ssim", "lpips", "mse", "ms_ssim", "lpips_vgg", "dists",
                                   "feature_cosine", "feature_error", "floor_training_colour_psnr",
                                   "floor_mean_colour_psnr", "floor_bicubic_psnr"]
    assert list(table["image"]) == [f"test/test{number}.png" for number in range(3)]
    assert table[["ms_ssim", "lpips_vgg", "dists"]].isna().all(axis=None)
    for name in ("psnr", "ssim", "lpips", "feature_cosine", "feature_error"):
        assert finished.run.data.metrics[f"test/{name}"] == pytest.approx(table[name].mean(), rel=1e-12)
        assert finished.run.data.metrics[f"test/{name}_std"] == pytest.approx(table[name].std(ddof=0), rel=1e-9)
        assert table[name].nunique() == 3
    for name in ("training_colour", "mean_colour", "bicubic"):
        assert finished.run.data.metrics[f"floor/{name}_psnr"] == pytest.approx(table[f"floor_{name}_psnr"].mean())
    assert np.allclose(table["psnr"], -10 * np.log10(table["mse"]))


def test_the_photographs_are_an_input_with_a_digest_that_mlflow_takes(finished: Any) -> None:
    data_set = finished.run.inputs.dataset_inputs[0]
    assert data_set.dataset.name == "my photos"
    assert 8 <= len(data_set.dataset.digest) <= 36
    assert finished.document["data"]["digest"].startswith(data_set.dataset.digest)
    assert json.loads(data_set.dataset.profile) == {"train": 4, "val": 2, "test": 3}
    assert {tag.key: tag.value for tag in data_set.tags} == {"mlflow.data.context": "training"}


def test_checkpoints_are_read_without_running_code(finished: Any) -> None:
    best, last = (torch.load(finished.artifacts / "checkpoints" / name, weights_only=True)
                  for name in ("best.pt", "last.pt"))
    assert best["digest"] == last["digest"] == finished.document["digest"]
    assert best["epoch"] == finished.run.data.metrics["best_epoch"]
    assert last["progress"]["epoch"] == 2
    assert all(torch.equal(last["best_model"][name], value) for name, value in best["model"].items())


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def expected(finished: Any, images: torch.Tensor) -> np.ndarray[Any, Any]:
    """What the trained model makes of the images: built from the configuration and ``best.pt``."""
    plan = resolve(RunConfig(**finished.document["parameters"]))
    model, _ = build(plan)
    model.load_learned_state(torch.load(finished.artifacts / "checkpoints" / "best.pt", weights_only=True)["model"])
    with torch.no_grad():
        reconstructions: np.ndarray[Any, Any] = model.eval()(images).numpy()
    return reconstructions


def test_the_logged_model_is_the_trained_model(finished: Any, images: torch.Tensor, expected: Any,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished.folder}/mlflow.db")
    monkeypatch.setattr(sys, "path", list(sys.path))  # MLflow puts the model's own code there
    model = mlflow.pyfunc.load_model(f"runs:/{finished.run.info.run_id}/model")
    predicted = model.predict(images.numpy())
    assert predicted.shape == (2, 3, 32, 32)
    assert predicted.dtype == np.float32
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert np.abs(predicted - expected).max() < 1e-6
    assert np.abs(predicted[0] - predicted[1]).max() > 0.01


LOAD_ELSEWHERE = """
import socket, sys
def refuse(*_):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import mlflow, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.save("predicted.npy", model.predict(images))
import inversion
print(inversion.__file__)
"""


def test_the_model_loads_in_another_folder_without_network_and_with_its_own_code(
        finished: Any, images: torch.Tensor, expected: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "images.npy", images.numpy())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{finished.folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    words = [sys.executable, "-c", LOAD_ELSEWHERE, f"runs:/{finished.run.info.run_id}/model", "images.npy"]
    done = subprocess.run(words, cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert np.abs(np.load(tmp_path / "predicted.npy") - expected).max() < 1e-6
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].endswith("/model/code/inversion/__init__.py")


def test_without_lpips_no_metric_of_it_is_logged_and_its_column_is_empty(
        train: Callable[..., Any], all_runs: Callable[[], list[Run]]) -> None:
    outcome = train()
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    assert set(run.data.metrics) == BY_EPOCH | AT_THE_END
    assert (run.data.params["lpips_weights"], run.data.params["lpips_weight"]) == ("off", "0.0")
    table = pd.read_parquet(Path(run.info.artifact_uri) / "metrics" / "test_per_image.parquet")
    assert table["lpips"].isna().all()
    assert not table["psnr"].isna().any()


def test_photographs_with_odd_names_are_logged_too(
        train: Callable[..., Any], all_runs: Callable[[], list[Run]], photo_folder: Path, workplace: Path) -> None:
    photos = shutil.copytree(photo_folder, workplace / "photos")
    odd = "é (1)#50%+a:b"
    for split in ("val", "test"):
        (photos / split / f"{split}0.png").rename(photos / split / f"{odd}.png")
        shutil.copy(photos / split / f"{split}1.png", photos / split / f"{odd.replace('#', '?')}.png")
    outcome = train(data=photos)
    assert outcome.code == 0, outcome.err
    artifacts = Path(all_runs()[0].info.artifact_uri)
    assert len(list((artifacts / "reconstructions").glob("*.png"))) == 4
    kept = pd.read_parquet(artifacts / "reconstructions" / "test.parquet")
    assert f"test/{odd}.png" in set(kept["image"])
    assert len(list((artifacts / "images").iterdir())) == 2 * 2 * 3 + 2 * 3  # by epoch, and the best
    names = pd.read_parquet(artifacts / "metrics" / "test_per_image.parquet")["image"]
    assert f"test/{odd}.png" in set(names)


def test_what_was_fallen_back_on_stands_in_name_and_last_line(
        train: Callable[..., Any], all_runs: Callable[[], list[Run]], workplace: Path) -> None:
    outcome = train(data=None, data_dir=workplace / "empty", train_limit=1, test_limit=1, val_limit=1, seed=3)
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    assert run.info.run_name == "vgg16:block1+transposed_conv seed=3 (sample photographs)"
    assert outcome.out.splitlines()[-1].startswith("sample photographs: not comparable with DIV2K and ImageNet; get ")
    assert run.data.params["data"] == "sample"
    assert json.loads(run.data.tags["inversion.config"])["fallbacks"][0]["short"] == "sample photographs"
