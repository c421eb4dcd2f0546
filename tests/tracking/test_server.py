"""A run against ``mlflow server`` over HTTP, PostgreSQL and artifacts behind the server, and its page in the UI."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient

from inversion.config.run_config import RunConfig
from inversion.tracking.grouping import GROUPING

pytestmark = pytest.mark.acceptance

EPOCHS = 12


def files(client: MlflowClient, run_id: str, folder: str = "") -> Iterator[str]:
    """Every artifact of a run."""
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from files(client, run_id, item.path)
        else:
            yield item.path


def test_a_run_against_a_server_prints_nothing_of_mlflows(served: Any) -> None:
    assert (served.printed.returncode, served.printed.stderr) == (0, "")
    lines = [line for line in served.printed.stdout.splitlines() if not line.startswith(("│", "┌", "└"))]
    run_id = served.run.info.run_id
    assert [line.partition(":")[0].strip() for line in lines] == [
        "vgg16", "vgg16", "note", "reconstructions", "view the run", "compare the runs"]
    runs = f"{served.address}/#/experiments/1/runs"
    assert lines[-2:] == [f"view the run: {runs}/{run_id}?workflowType=machine_learning",
                          f"compare the runs: {runs}?workflowType=machine_learning"]
    assert lines[-3].endswith(f"mlflow artifacts download --run-id {run_id} --artifact-path reconstructions")


def test_a_run_against_a_server_logs_everything(served: Any, tmp_path: Path) -> None:
    run, client = served.run, MlflowClient(served.address)
    assert run.info.status == "FINISHED"
    assert set(run.data.params) == {*RunConfig.model_fields, *GROUPING}
    for name in ("train/loss", "train/mse", "val/loss", "val/psnr", "val/ssim", "lr", "images_per_second"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, name)] == list(range(1, EPOCHS + 1))
    assert {"test/psnr", "test/psnr_std", "test/ssim", "best/val_loss", "eval_seconds"} <= run.data.metrics.keys()
    found = set(files(client, run.info.run_id))
    assert {file for file in found if not file.startswith("images/")} == {
        "config.json", "checkpoints/best.pt", "checkpoints/last.pt", "metrics/test_per_image.parquet",
        "reconstructions/1_test_test0.png", "reconstructions/2_test_test1.png", "reconstructions/3_test_test2.png",
        "reconstructions/test.parquet"}
    by_epoch, best = 2 * 2 * (EPOCHS + 1), 2 * 3  # with those before training
    assert len([file for file in found if file.startswith("images/")]) == by_epoch + best
    assert run.inputs.dataset_inputs[0].dataset.name == "my photos"
    table = pd.read_parquet(client.download_artifacts(run.info.run_id, "metrics/test_per_image.parquet", str(tmp_path)))
    assert run.data.metrics["test/psnr"] == pytest.approx(table["psnr"].mean())
    best = torch.load(client.download_artifacts(run.info.run_id, "checkpoints/best.pt", str(tmp_path)),
                      weights_only=True)
    assert best["digest"] == run.data.tags["inversion.digest"]


def test_the_model_loads_from_the_server(served: Any, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", served.address)
    monkeypatch.setattr(sys, "path", list(sys.path))
    model = mlflow.pyfunc.load_model(f"runs:/{served.run.info.run_id}/model")
    images = np.random.default_rng(0).random((2, 3, 32, 32), dtype=np.float32)
    reconstructions = model.predict(images)
    assert (reconstructions.shape, reconstructions.dtype) == ((2, 3, 32, 32), np.float32)
    assert 0 <= reconstructions.min() < reconstructions.max() <= 1


def test_a_run_is_resumed_from_the_server_on_a_machine_that_has_nothing_of_it(
        server: str, photo_folder: Path, workplace: Path, start: Callable[..., subprocess.Popen[str]],
        monkeypatch: pytest.MonkeyPatch) -> None:
    client = MlflowClient(server)
    experiment_id = client.create_experiment("resumed")
    words = [sys.executable, "-m", "inversion", "train", "--tracking-uri", server, "--experiment", "resumed"]
    process = start(*words, "--encoder", "vgg16:block1", "--weights", "random", "--lpips-weights", "off",
                    "--image-size", "32", "--threads", "2", "--epochs", "30", "--data", str(photo_folder))

    def epochs() -> list[int]:
        return [metric.step for run in client.search_runs([experiment_id])
                for metric in client.get_metric_history(run.info.run_id, "val/loss")]

    end = time.monotonic() + 90
    while len(epochs()) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    run, = client.search_runs([experiment_id])
    assert run.info.status == "KILLED"
    (workplace / "elsewhere").mkdir()
    local = Path(run.data.params["data_dir"]) / "runs" / run.info.run_id
    local.rename(workplace / "elsewhere" / "gone")

    resumed = start(*words, "--resume", run.info.run_id)
    out, err = resumed.communicate(timeout=120)
    assert (resumed.returncode, err) == (0, ""), out
    run, = client.search_runs([experiment_id])
    assert run.info.status == "FINISHED"
    assert epochs() == list(range(1, 31))


def test_the_page_of_the_run_shows_curves_and_reconstructions(served: Any, page: Any, tmp_path: Path) -> None:
    address = f"{served.address}/#/experiments/{served.run.info.experiment_id}/runs/{served.run.info.run_id}"
    page.goto(address)
    page.get_by_role("heading", name="vgg16:block1+transposed_conv").wait_for()
    page.get_by_text("best/val_psnr", exact=True).first.wait_for()
    page.goto(f"{address}/model-metrics")
    card = page.locator('[data-testid="experiment-view-compare-runs-card"]').filter(has_text="reconstructions/1_val0")
    card.wait_for()
    page.locator(".js-plotly-plot").nth(7).wait_for()
    page.screenshot(path=tmp_path / "run.png")
    told = " ".join(page.inner_text("body").split())
    for section in ("best (3)", "best_reconstructions (3)", "floor (3)", "reconstructions (2)", "test (8)", "train (2)",
                    "val (4)"):
        assert section in told

    best = round(served.run.data.metrics["best_epoch"])  # without moving a slider
    page.locator(f"img[src*='best_reconstructions'][src*='step%2B{best}%2B']").first.wait_for()

    card.get_by_role("button").first.click()  # full screen
    dialog = page.get_by_role("dialog")
    slider = dialog.get_by_role("slider")
    for epoch in range(1, EPOCHS + 1):  # it begins at 0
        slider.press("ArrowRight")
        assert slider.get_attribute("aria-valuenow") == str(epoch)
    picture = dialog.locator(f"img[src*='step%2B{EPOCHS}%2B']")
    picture.wait_for()
    page.screenshot(path=tmp_path / "reconstruction.png")
    width, height = picture.evaluate("one => [one.naturalWidth, one.naturalHeight]")
    assert width == height > 90
