"""Pictures that are reconstructed exactly, through the commands: an infinite PSNR in the table, and none elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from PIL import Image
from torch import Tensor

from inversion.models.decoders.transposed_conv import TransposedConvDecoder

Command = Callable[..., Any]


@pytest.fixture
def black_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders give black, whatever they are given."""
    monkeypatch.setattr(TransposedConvDecoder, "forward", lambda self, features: 0 * self.head(features))


@pytest.fixture
def photos(photo_folder: Path, tmp_path: Path) -> Path:
    """A folder of photographs of which one of validation and one of test is black."""
    root = tmp_path / "photos"
    for split in ("train", "val", "test"):
        (root / split).mkdir(parents=True)
        for file in (photo_folder / split).iterdir():
            (root / split / file.name).write_bytes(file.read_bytes())
    for split in ("val", "test"):
        Image.new("RGB", (48, 44)).save(root / split / "black.png")
    return root


def table_of(run: Run) -> pd.DataFrame:
    return pd.read_parquet(Path(run.info.artifact_uri) / "metrics" / "test_per_image.parquet")


def test_a_run_with_an_exact_image_logs_finite_means_and_keeps_the_truth_by_image(
    train: Command, inversion: Command, all_runs: Command, photos: Path, black_decoder: None, tmp_path: Path
) -> None:
    outcome = train(data=photos)
    assert outcome.code == 0, outcome.err
    assert "1 image exact, counted as 100 dB" in " ".join(outcome.out.split())
    run, = all_runs()
    psnr = table_of(run).set_index("image")["psnr"]
    assert psnr["test/black.png"] == math.inf
    expected = np.minimum(psnr, 100)
    metrics = run.data.metrics
    assert metrics["test/psnr"] == pytest.approx(expected.mean())
    assert metrics["test/psnr_std"] == pytest.approx(expected.std(ddof=0))
    assert metrics["test/exact_images"] == 1
    assert all(math.isfinite(value) and value < 1e12 for value in metrics.values())
    assert 33 < metrics["val/psnr"] == metrics["best/val_psnr"] < 100

    again = inversion("evaluate", run.info.run_id)
    assert again.code == 0, again.err
    assert "all 4 images score exactly as logged" in again.out
    assert "1 image exact, counted as 100 dB" in again.out
    assert f"{metrics['test/psnr']:.4f} ± {metrics['test/psnr_std']:.4f}" in again.out
    assert "nan" not in again.out
    assert not re.search(r"\binf\b", again.out)

    shown = inversion("reconstruct", run.info.run_id, str(photos / "test" / "black.png"),
                      str(photos / "test" / "test0.png"), "--output", str(tmp_path / "made"))
    assert shown.code == 0, shown.err
    assert not re.search(r"\binf\b", shown.out)
    assert "exact" in shown.out
    assert pd.read_csv(tmp_path / "made" / "scores.csv")["psnr"].tolist()[0] == math.inf


@pytest.mark.parametrize("protocol", ["image", "published"])
def test_a_test_set_that_is_all_black_has_numbers(
    train: Command, inversion: Command, all_runs: Command, photos: Path, black_decoder: None, protocol: str
) -> None:
    for file in (photos / "test").glob("test*.png"):
        file.unlink()
    outcome = train(data=photos, protocol=protocol)
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    metrics = run.data.metrics
    assert (metrics["test/psnr"], metrics["test/psnr_std"], metrics["test/exact_images"]) == (100.0, 0.0, 1)
    assert metrics["test/ssim"] == pytest.approx(1.0)
    assert "all 1 images score exactly as logged" in inversion("evaluate", run.info.run_id).out


def test_a_test_image_whose_reconstruction_is_not_finite_fails_the_run_by_name(
    train: Command, all_runs: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: TransposedConvDecoder, features: Tensor) -> Tensor:
        image: Tensor = self.head(features)
        return image if len(image) == 2 or self.training else image / 0 * 0  # validation has other batches than test

    (photos / "val" / "black.png").unlink()
    monkeypatch.setattr(TransposedConvDecoder, "forward", forward)
    outcome = train(data=photos)
    assert outcome.code == 1
    assert "error: test image test/black.png: its psnr is nan" in outcome.err
    run, = all_runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["inversion.failure"] == "nonfinite"
    assert len(table_of(run)) == 4
