"""How the report grows with the runs of a study: the command's time, its memory, and the size of its page.

Usage: ``python -m benchmarks.report_growth [--runs 50 --runs 500] [--images 100]``. Nothing is trained: the runs of a
study with three seeds are written into an MLflow store with scores and pictures, as trained ones have them, and
``inversion-report`` reads it. The ratio of the last number of runs to the first says how it grows.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
import psutil
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from inversion.config.resolve import NOT_SCIENTIFIC, RECIPE, check, run_name
from inversion.config.run_config import RunConfig
from inversion.models.encoders.catalog import ENCODERS
from inversion.tracking.search import KIND
from inversion.tracking.study import DIGEST, STUDY

SEEDS = 3
EPOCHS = 30
PICTURES = 8
DECODERS = ("transposed_conv", "attention", "wavelet", "frequency_aware")
SEED_SD, IMAGE_SD = 0.15, 2.0
"""In decibels: between the seeds of a configuration, and between the images of the data set."""


def configurations() -> Iterator[RunConfig]:
    """Every layer of the study's four encoders with each of its decoders, at ever more learning rates."""
    layers = [f"{spec.name}:{layer}" for spec in ENCODERS.values() for layer in spec.layers]
    for step in itertools.count():
        for encoder, decoder, seed in itertools.product(layers, DECODERS, range(SEEDS)):
            yield check(RunConfig(encoder=encoder, decoder=decoder, seed=seed, lr=1e-4 * (1 + step), data="made",
                                  weights="random", device="cpu", precision="fp32"))


class Store:
    """An MLflow store with a study of scored runs."""

    def __init__(self, folder: Path, images: int) -> None:
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self._client = MlflowClient(self.uri)
        self._experiment = self._client.create_experiment("inversion", (folder / "artifacts").as_uri())
        self._random = np.random.default_rng(0)
        self._images = [f"test/{number:04}.png" for number in range(images)]
        self._easy = self._random.normal(0, IMAGE_SD, images)
        self._folder = folder
        pixels = self._random.integers(0, 255, (PICTURES, 28, 28, 3), np.uint8)
        self._files = [_jpeg(part) for part in pixels]

    def fill(self, runs: int) -> None:
        """Writes the study ``growth`` with so many runs."""
        parent = self._client.create_run(self._experiment, run_name="growth", tags={KIND: "study", STUDY: "growth"})
        planned = [self._add(config, parent.info.run_id)
                   for config in track(list(itertools.islice(configurations(), runs)), "writing runs", transient=True)]
        self._client.log_text(parent.info.run_id, json.dumps(planned), "runs.json")
        self._client.set_terminated(parent.info.run_id)

    def _add(self, config: RunConfig, parent: str) -> dict[str, Any]:
        scientific = {name: value for name, value in config.model_dump().items() if name not in NOT_SCIENTIFIC}
        identity = {"recipe": RECIPE, "parameters": scientific, "data": "d" * 64, "weights": {}, "lpips": None}
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
        document = {"digest": digest, "parameters": config.model_dump(), "fallbacks": [], "identity": identity,
                    "data": {"name": "made", "digest": "d" * 64, "images": {"test": len(self._images)}}}
        run_id = self._client.create_run(self._experiment, run_name=run_name(config, []), tags={
            KIND: "run", STUDY: "growth", DIGEST: digest, MLFLOW_PARENT_RUN_ID: parent,
            "inversion.config": json.dumps(document)}).info.run_id
        self._score(run_id, config)
        self._client.set_terminated(run_id)
        return {"run": run_name(config, []), "digest": digest, "config": config.model_dump()}

    def _score(self, run_id: str, config: RunConfig) -> None:
        own = np.random.default_rng(abs(hash((config.encoder, config.decoder, config.lr))) % 2**32).normal(18, 2)
        noise = self._random.normal(0, 0.3, len(self._images))
        psnr = own + self._random.normal(0, SEED_SD) + self._easy + noise
        self._log_table(run_id, "metrics", "test_per_image.parquet", pd.DataFrame(
            {"image": self._images, "psnr": psnr, "ssim": psnr / 50, "lpips": 1 / psnr, "mse": 10 ** (-psnr / 10)}))
        self._log_table(run_id, "reconstructions", "test.parquet", pd.DataFrame(
            {"image": self._images[:PICTURES], "original": self._files, "reconstruction": self._files[::-1]}))
        logged = {"test/psnr": psnr.mean(), "test/psnr_std": psnr.std(), "train_seconds": 100.0, "eval_seconds": 2.0,
                  "decoder_parameters": 1e4, "gflops_per_image": 1.0, "feature_locations": 784.0, "encoder_passes": 1.0}
        points = [Metric(key, float(value), 0, 0) for key, value in logged.items()]
        points += [Metric("val/psnr", float(psnr.mean() - 3 / epoch), 0, epoch) for epoch in range(1, EPOCHS + 1)]
        self._client.log_batch(run_id, metrics=points)

    def _log_table(self, run_id: str, where: str, name: str, table: pd.DataFrame) -> None:
        table.to_parquet(self._folder / name)
        self._client.log_artifact(run_id, str(self._folder / name), where)


def _jpeg(pixels: Any) -> bytes:
    """A JPEG file of 224×224, smooth as a photograph is."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def measure(runs: int, images: int) -> dict[str, float]:
    """Seconds, megabytes of memory and of the page of one report."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder, images)
        store.fill(runs)
        began = time.perf_counter()
        with (folder / "report.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "inversion.report", "growth", "--output", str(folder / "report"),
                 "--tracking-uri", store.uri], stdout=log, stderr=log)
            peak = _peak(process)
        if process.returncode:
            raise click.ClickException((folder / "report.log").read_text())
        return {"time (s)": time.perf_counter() - began, "peak memory (MB)": peak / 1e6,
                "index.html (MB)": (folder / "report" / "index.html").stat().st_size / 1e6}


def _peak(process: subprocess.Popen[bytes]) -> int:
    """The largest resident set of a process, in bytes, once it has ended."""
    largest, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):
            largest = max(largest, watched.memory_info().rss)
        time.sleep(0.05)
    return largest


@click.command()
@click.option("--runs", multiple=True, type=click.IntRange(1), default=(50, 500), show_default=True)
@click.option("--images", type=click.IntRange(10), default=100, show_default=True, help="Test images of each run.")
def main(runs: tuple[int, ...], images: int) -> None:
    """Prints the time, the memory and the size of a report by the runs of its study."""
    results = {number: measure(number, images) for number in runs}
    table = Table("", *(f"{number:,} runs" for number in runs), "ratio")
    for row in results[runs[0]]:
        values = [results[number][row] for number in runs]
        table.add_row(row, *(f"{value:,.1f}" for value in values), f"{values[-1] / values[0]:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
