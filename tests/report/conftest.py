"""Studies in a tracking store whose right answers are known: nothing is trained for them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Metric, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image

from inversion.config.resolve import NOT_SCIENTIFIC, RECIPE, check, run_name
from inversion.config.run_config import RunConfig
from inversion.metrics import counted
from inversion.models.encoders.catalog import parse_encoders
from inversion.tracking.search import EVALUATES, KIND
from inversion.tracking.study import DIGEST, STUDY

IMAGES = [f"test/{number}.png" for number in range(12)]


def jpeg(shade: int) -> bytes:
    """A grey JPEG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (shade, shade, shade)).save(buffer, "JPEG")
    return buffer.getvalue()


def identity_of(config: RunConfig) -> dict[str, Any]:
    """What ``inversion.config.resolve.Plan.identity`` says of such a run, on photographs whose digest is ``ddd…``."""
    weights = {cut.encoder: f"{config.weights}{'' if ':' in config.weights else ':0'}:v1"
               if config.weights.startswith("random") else f"{cut.encoder}-{config.weights}.pth"
               for cut in parse_encoders(config.encoder)}
    scientific = {name: value for name, value in config.model_dump().items() if name not in NOT_SCIENTIFIC}
    return {"recipe": RECIPE, "parameters": scientific, "data": "d" * 64, "weights": weights, "lpips": None}


class MadeStudy:
    """A study under construction: a parent run, and children with the scores that they are given."""

    def __init__(self, client: MlflowClient, name: str, folder: Path, experiment: str = "inversion") -> None:
        self.client = client
        self.name = name
        self.folder = folder
        found = client.get_experiment_by_name(experiment)
        self.experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        self.parent = client.create_run(self.experiment_id, run_name=name,
                                        tags={KIND: "study", STUDY: name}).info.run_id
        client.log_text(self.parent, "study: made\n", "made.yaml")
        self.planned: list[dict[str, Any]] = []

    def add(
        self,
        scores: Sequence[float] | None,
        *,
        status: str = "FINISHED",
        tags: Mapping[str, str] | None = None,
        metrics: Mapping[str, float] | None = None,
        pictures: bool = False,
        lpips: bool = False,
        images: Sequence[str] = IMAGES,
        floors: Mapping[str, Sequence[float]] | None = None,
        identity: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> str:
        """One run with a PSNR for each test image (none: it did not get that far).

        ``floors`` has the PSNR of each test image by the name of a floor; earlier versions logged the mean alone.
        ``identity`` changes what its inputs are by content: ``weights``, ``data``, ``lpips``, ``recipe``.
        """
        config = check(RunConfig.model_validate({
            "data": "made", "weights": "random", "image_size": 64, "device": "cpu", "precision": "fp32", **parameters}))
        values = config.model_dump()
        whole = identity_of(config) | dict(identity or {})
        digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:32]
        document = {"digest": digest, "parameters": values, "fallbacks": [],
                    "data": {"name": config.data, "digest": whole["data"], "images": {"test": len(images)}},
                    "identity": whole}
        run = self.client.create_run(self.experiment_id, run_name=run_name(config, []), tags={
            KIND: "run", STUDY: self.name, DIGEST: digest, MLFLOW_PARENT_RUN_ID: self.parent,
            "inversion.config": json.dumps(document), "inversion.version.inversion": "0.1.0",
            "inversion.commit": "c0ffee", **(tags or {})})
        run_id = str(run.info.run_id)
        if scores is not None:
            locations = max(cut.shape(config.image_size).spatial_positions for cut in parse_encoders(config.encoder))
            self._score(run_id, np.asarray(scores, np.float64), images,
                        {"feature_locations": float(locations), **(metrics or {})}, lpips, floors or {})
        if pictures:
            self._picture(run_id, images)
        self.client.set_terminated(run_id, status)
        self.planned.append({"run": run_name(config, []), "digest": digest, "config": values})
        return run_id

    def evaluate(self, run_id: str, scores: Sequence[float], data: str = "holiday", **about: Any) -> None:
        """An evaluation of a run on other images; ``about`` is what the document says of them."""
        document = {"evaluates": run_id, "split": "test", "parameters": {"lpips_weights": "off"},
                    "data": {"name": data, "digest": data * 8, "own": False, "images": {"test": len(scores)}, **about}}
        run = self.client.create_run(self.experiment_id, tags={
            KIND: "evaluation", EVALUATES: run_id, "inversion.config": json.dumps(document)})
        names = [f"{data}/{number}.png" for number in range(len(scores))]
        self._score(run.info.run_id, np.asarray(scores, np.float64), names, {}, False, {})
        self.client.set_terminated(run.info.run_id)

    def plan(self, name: str) -> None:
        """A run that is queued and has not begun."""
        self.planned.append({"run": name, "digest": f"none-{name}", "config": {}})

    def finish(self) -> str:
        """Logs what was queued; returns the study's name."""
        self.client.log_text(self.parent, json.dumps(self.planned), "runs.json")
        self.client.set_terminated(self.parent)
        return self.name

    def _score(self, run_id: str, psnr: Any, images: Sequence[str], metrics: Mapping[str, float], lpips: bool,
               floors: Mapping[str, Sequence[float]]) -> None:
        table = pd.DataFrame({"image": list(images), "psnr": psnr, "ssim": np.minimum(psnr, 50) / 50,
                              "lpips": 1 / psnr if lpips else None, "mse": 10 ** (-psnr / 10),
                              **{f"floor_{name}_psnr": list(values) for name, values in floors.items()}})
        table["lpips"] = table["lpips"].astype("float64")
        file = self.folder / "test_per_image.parquet"
        table.to_parquet(file)
        self.client.log_artifact(run_id, str(file), "metrics")
        metrics = {**{f"floor/{name}_psnr": float(np.mean(values)) for name, values in floors.items()}, **metrics}
        mean = counted(psnr)
        logged = {"test/psnr": float(mean.mean()), "test/psnr_std": float(mean.std()), "train_seconds": 10.0,
                  "eval_seconds": 2.0, "decoder_parameters": 1000.0, "train_peak_memory_mb": 500.0,
                  "eval_peak_memory_mb": 400.0, "gflops_per_image": 1.0, "encoder_passes": 1.0, **metrics}
        points = [Metric(key, value, 0, 0) for key, value in logged.items()]
        points += [Metric("val/psnr", float(psnr.mean()) - 3 + epoch, 0, epoch) for epoch in (1, 2, 3)]
        self.client.log_batch(run_id, metrics=points, tags=[RunTag("scored", "yes")])

    def _picture(self, run_id: str, images: Sequence[str]) -> None:
        file = self.folder / "test.parquet"
        pd.DataFrame({"image": list(images), "original": [jpeg(100 + n) for n in range(len(images))],
                      "reconstruction": [jpeg(90 + n) for n in range(len(images))]}).to_parquet(file)
        self.client.log_artifact(run_id, str(file), "reconstructions")


@pytest.fixture(scope="session")
def make_study_in() -> Callable[..., MadeStudy]:
    """``make_study_in(workplace, folder, "name")``: an empty study in a workplace's ``mlflow.db``."""
    return lambda workplace, folder, name="made": MadeStudy(
        MlflowClient(f"sqlite:///{workplace}/mlflow.db"), name, folder)


@pytest.fixture
def make_study(workplace: Path, tmp_path: Path, make_study_in: Callable[..., MadeStudy]) -> Callable[..., MadeStudy]:
    """``make_study("name")``: an empty study in the ``mlflow.db`` of the test's workplace."""
    return lambda name="made": make_study_in(workplace, tmp_path, name)


@pytest.fixture(scope="session")
def scores() -> Callable[..., Any]:
    """``scores(25.0, 0.3)``: a PSNR for each test image around a mean; images are easy or hard for all alike."""
    easy = np.random.default_rng(1).normal(0, 2, len(IMAGES))

    def make(mean: float, noise: float = 0.05, seed: int = 0) -> Any:
        own = np.random.default_rng([seed, round(100 * mean)]).normal(0, noise, len(IMAGES))
        return mean + (easy - easy.mean()) + (own - own.mean())

    return make
