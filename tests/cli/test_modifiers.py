"""Modified features through the commands: training, evaluation, reconstruction, optimisation, the logged model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from mlflow.entities import Run

from inversion.tracking.grouping import GROUPING, grouping_params

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]

CHAIN = "vgg16:block1/pool=2/channels=pca:8/bits=4/noise=0.1"
SMALL = ("--weights", "random", "--lpips-weights", "off", "--image-size", "32", "--steps", "4", "--threads", "1")


def per_image(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        Path(run.info.artifact_uri) / "metrics" / "test_per_image.parquet").to_pylist()
    return rows


@pytest.mark.parametrize(("encoder", "layer", "name", "rate"), [
    ("vgg16:block1/pool=2", None, "vgg16:block1/pool=2", None),
    ("vgg16", "block1/channels=16/bits=3", "vgg16:block1/channels=16/bits=3", 16 * 16 * 16 * 3 / 32**2),
    (CHAIN, None, CHAIN, 8 * 8 * 8 * 4 / 32**2),
    ("resnet34:layer1/bits=4+vgg16:block1/bits=2", None, "resnet34:layer1/bits=4+vgg16:block1/bits=2",
     (64 * 8 * 8 * 4 + 64 * 16 * 16 * 2) / 32**2),
    ("resnet34:layer1/bits=4+vgg16:block1", None, "resnet34:layer1/bits=4+vgg16:block1", None),
])
def test_a_run_says_what_its_features_were(encoder: str, layer: str | None, name: str, rate: float | None,
                                           train: Command, all_runs: Runs) -> None:
    outcome = train(encoder=encoder, layer=layer)
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    assert run.info.status == "FINISHED"
    assert {key: run.data.params[key] for key in GROUPING} == grouping_params(name)
    assert str(run.info.run_name).startswith(f"{name}+")
    assert run.data.metrics.get("feature_bits_per_pixel") == rate
    document = json.loads((Path(run.info.artifact_uri) / "config.json").read_text())
    assert document["identity"]["parameters"]["encoder"] == name


def test_a_run_whose_features_are_quantised_logs_jpegs_rates_of_its_test_images(
        train: Command, all_runs: Runs) -> None:
    assert train(encoder="vgg16:block1/bits=2").code == 0
    run, = all_runs()
    rows = pq.read_table(Path(run.info.artifact_uri) / "metrics" / "jpeg_per_image.parquet").to_pylist()
    assert {row["image"] for row in rows} == {row["image"] for row in per_image(run)}
    assert all(0 < row["scan_bits_per_pixel"] < row["bits_per_pixel"] and row["psnr"] > 5 for row in rows)
    assert train(encoder="vgg16:block1/pool=2").code == 0
    other, = (each for each in all_runs() if each.info.run_id != run.info.run_id)
    assert not (Path(other.info.artifact_uri) / "metrics" / "jpeg_per_image.parquet").exists()


def test_a_run_is_scored_again_with_the_same_numbers_and_served_as_it_was_scored(
        train: Command, inversion: Command, all_runs: Runs, workplace: Path, photo_folder: Path) -> None:
    assert train(encoder=CHAIN, precision="fp32").code == 0
    run, = all_runs()
    assert inversion("evaluate", run.info.run_id).code == 0
    again, = (each for each in all_runs() if each.data.tags.get("inversion.kind") == "evaluation")
    # the mean colour of the training images is known to the training alone
    assert per_image(again) == [row | {"floor_training_colour_psnr": None} for row in per_image(run)]
    mlflow.set_tracking_uri(f"sqlite:///{workplace}/mlflow.db")
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    images = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    together, alone = model.predict(images), model.predict(images[1:2])
    np.testing.assert_allclose(alone[0], together[1], atol=1e-5)
    assert np.array_equal(model.predict(images), together)
    picture = next((photo_folder / "test").iterdir())
    outcome = inversion("reconstruct", run.info.run_id, str(picture), "--output", "out")
    assert outcome.code == 0, outcome.err


def test_a_run_of_seeds_has_the_same_random_projection(train: Command, all_runs: Runs) -> None:
    for seed in (0, 1):
        assert train(encoder="vgg16:block1/channels=4", seed=seed).code == 0
    one, other = (mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").unwrap_python_model().model
                  for run in all_runs())
    assert (one.frozen[0].modifiers.state_dict()["0.projection"]
            == other.frozen[0].modifiers.state_dict()["0.projection"]).all()


def test_a_run_with_noise_that_was_stopped_goes_on_to_the_same_scores(
        train: Command, inversion: Command, all_runs: Runs, stop_at_step: Callable[[int], None]) -> None:
    parameters = {"encoder": "vgg16:block1/noise=0.2", "epochs": 2, "batch_size": 2, "threads": 1}
    assert train(**parameters).code == 0
    whole, = all_runs()
    stop_at_step(2)
    assert train(**parameters).code == 130
    halted, = (run for run in all_runs() if run.info.status == "KILLED")
    assert inversion("train", "--resume", halted.info.run_id).code == 0
    finished = {run.info.run_id: run for run in all_runs()}
    assert per_image(finished[halted.info.run_id]) == per_image(whole)
    assert (finished[halted.info.run_id].data.tags["inversion.digest"] == whole.data.tags["inversion.digest"])


@pytest.mark.parametrize("encoder", [
    "vgg16:block1/pool=2", "vgg16:block1/channels=pca:16", "vgg16:block1/bits=4", "vgg16:block1/noise=0.1",
    "resnet34:layer1/bits=6+vgg16:block1/channels=8"])
def test_an_image_is_found_from_modified_features(encoder: str, inversion: Command, all_runs: Runs, workplace: Path,
                                                  photo_folder: Path) -> None:
    outcome = inversion("optimize", "--encoder", encoder, "--data", str(photo_folder), *SMALL)
    assert outcome.code == 0, outcome.err
    run, = all_runs()
    assert run.info.run_name == f"{encoder}+optimize"
    errors = [row["psnr"] for row in per_image(run)]
    assert len(errors) == 3
    assert all(np.isfinite(errors))


def test_the_list_names_the_modifiers_and_shows_the_shapes_of_a_modified_layer(inversion: Command) -> None:
    whole = inversion("list").out
    assert "Modifiers" in whole
    assert "/pool=2" in whole
    one = inversion("list", "vgg16:block1/pool=2/bits=4").out
    assert "vgg16:block1/pool=2/bits=4" in one
    assert "64×56×56" in one
