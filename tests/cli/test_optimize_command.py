"""``inversion optimize``: what it leaves in MLflow, what it refuses, and how it stops."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from inversion.training.pixel_optimization import CURVE_POINTS, Inverted, invert

Command = Callable[..., Any]
Runs = Callable[[], list[Run]]

METRICS = {"test/psnr", "test/psnr_std", "test/ssim", "test/ssim_std", "test/lpips", "test/lpips_std",
           "test/feature_cosine", "test/feature_cosine_std", "test/feature_error", "test/feature_error_std",
           "eval_further_seconds", "eval_seconds",
           "inference_ms_per_image", "eval_peak_memory_mb", "feature_channels", "feature_locations", "encoder_passes",
           "optimize/loss", "optimize/feature_error"}
SMALL = {"encoder": "vgg16:block1", "weights": "random", "lpips_weights": "off", "image_size": 32, "steps": 12,
         "threads": 1}


@pytest.fixture
def optimize(inversion: Command, workplace: Path, photo_folder: Path) -> Command:
    """``optimize(steps=3)``: a small inversion with these changes."""

    def run(*more: str, **parameters: object) -> Any:
        values = SMALL | {"data": photo_folder} | parameters
        return inversion("optimize", *(word for name, value in values.items()
                                       for word in (f"--{name.replace('_', '-')}", str(value))), *more)

    return run


def only(runs: list[Run]) -> Run:
    run, = runs
    return run


def artifacts(run: Run) -> Path:
    return Path(run.info.artifact_uri)


def per_image(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(artifacts(run) / "metrics" / "test_per_image.parquet").to_pylist()
    return rows


def refused(outcome: Any) -> str:
    """The one line that a wrong request is answered with."""
    assert outcome.code == 2
    line, = outcome.err.splitlines()
    return str(line)


@pytest.fixture
def study(workplace: Path) -> str:
    """The id of the parent run of a study ``depth``, as a sweep makes it."""
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.create_experiment("inversion")
    tags = {"inversion.kind": "study", "inversion.study": "depth"}
    return str(client.create_run(experiment, tags=tags, run_name="depth").info.run_id)


def test_it_leaves_scores_tags_pictures_and_the_curve(optimize: Command, all_runs: Runs, workplace: Path,
                                                      random_trunk: dict[str, torch.Tensor]) -> None:
    torch.save(random_trunk, workplace / "alexnet.pth")
    outcome = optimize(lpips_weights=workplace / "alexnet.pth")
    assert outcome.code == 0, outcome.err
    run = only(all_runs())
    assert (run.info.status, run.info.run_name) == ("FINISHED", "vgg16:block1+optimize")
    assert set(run.data.metrics) == METRICS
    tags = run.data.tags
    assert (tags["inversion.kind"], tags["inversion.protocol"], tags["inversion.data"]) == (
        "optimize", "image", "my photos")
    assert "mlflow.parentRunId" not in tags
    rows = per_image(run)
    assert [row["image"] for row in rows] == ["test/test0.png", "test/test1.png", "test/test2.png"]
    for name in ("psnr", "ssim", "lpips"):
        values = [row[name] for row in rows]
        assert run.data.metrics[f"test/{name}"] == pytest.approx(np.mean(values))
        assert run.data.metrics[f"test/{name}_std"] == pytest.approx(np.std(values))
    assert len(list((artifacts(run) / "reconstructions").glob("*.png"))) == 3
    assert pq.read_table(artifacts(run) / "reconstructions" / "test.parquet").num_rows == 3
    assert run.inputs is not None
    assert run.inputs.dataset_inputs[0].dataset.name == "my photos"


def test_what_it_prints_calls_it_a_lower_bound(optimize: Command, all_runs: Runs) -> None:
    outcome = optimize()
    run = only(all_runs())
    assert f"PSNR {run.data.metrics['test/psnr']:.3f} ± " in outcome.out
    assert "one lower bound on what the features allow" in outcome.out
    assert run.info.run_id in outcome.out
    assert outcome.err == ""


def test_its_parameters_say_that_there_is_no_decoder(optimize: Command, all_runs: Runs) -> None:
    optimize(tv_weight=0.25, seed=3)
    run = only(all_runs())
    params = run.data.params
    assert (params["method"], params["decoder"]) == ("optimize", "none")
    assert (params["steps"], params["tv_weight"], params["precision"], params["weights"]) == (
        "12", "0.25", "fp32", "random")
    assert not {"epochs", "fusion", "mse_weight"} & set(params)
    assert run.info.run_name == "vgg16:block1+optimize seed=3"
    document = json.loads(run.data.tags["inversion.config"])
    assert document == json.loads((artifacts(run) / "config.json").read_text())
    assert document["parameters"]["decoder"] == document["identity"]["parameters"]["decoder"] == "none"
    assert document["digest"] == run.data.tags["inversion.digest"]


def test_the_curve_falls_and_has_few_points(optimize: Command, all_runs: Runs, workplace: Path) -> None:
    optimize(steps=120, test_limit=1)
    run = only(all_runs())
    client = MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    curve = sorted(client.get_metric_history(run.info.run_id, "optimize/loss"), key=lambda point: point.step)
    assert (curve[0].step, curve[-1].step) == (0, 120)
    assert len(curve) <= CURVE_POINTS + 1
    assert curve[-1].value < 0.1 * curve[0].value


def test_the_same_request_gives_the_same_numbers_and_digest(optimize: Command, all_runs: Runs) -> None:
    for seed in (0, 0, 1):
        assert optimize(seed=seed, test_limit=1).code == 0
    other, again, first = sorted(all_runs(), key=lambda run: -run.info.start_time)
    assert per_image(first) == per_image(again) != per_image(other)
    digests = [run.data.tags["inversion.digest"] for run in (first, again, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(("name", "value"), [("steps", 13), ("tv_weight", 0.5), ("lr", 0.5)])
def test_what_changes_the_numbers_changes_the_digest(name: str, value: float, optimize: Command,
                                                     all_runs: Runs) -> None:
    optimize(steps=2, test_limit=1)
    optimize(**{"steps": 2, "test_limit": 1, name: value})
    assert len({run.data.tags["inversion.digest"] for run in all_runs()}) == 2


def test_it_is_put_below_a_study(optimize: Command, all_runs: Runs, study: str) -> None:
    assert optimize("--study", "depth", steps=2).code == 0
    run = only([run for run in all_runs() if run.info.run_id != study])
    assert (run.data.tags["mlflow.parentRunId"], run.data.tags["inversion.study"]) == (study, "depth")
    assert run.data.tags["inversion.kind"] == "optimize"


@pytest.mark.parametrize("name", ["dept", "dept'h"])
def test_an_unknown_study_is_refused_before_anything_is_done(name: str, optimize: Command, all_runs: Runs,
                                                             study: str) -> None:
    line = refused(optimize("--study", name))
    assert line.endswith("Known: depth. Did you mean 'depth'?")
    assert [run.info.run_id for run in all_runs()] == [study]


def test_a_study_where_there_is_none_is_refused(optimize: Command, all_runs: Runs) -> None:
    assert "has no study yet, so none called 'depth'" in refused(optimize("--study", "depth"))
    assert all_runs() == []


def test_several_encoders_share_one_image(optimize: Command, all_runs: Runs) -> None:
    assert optimize(encoder="vgg16:block1+resnet34:layer1", steps=3, test_limit=1).code == 0
    run = only(all_runs())
    assert run.info.run_name == "vgg16:block1+resnet34:layer1+optimize"
    assert (run.data.metrics["encoder_passes"], run.data.metrics["feature_channels"]) == (2, 128)


def test_the_published_protocol_scores_the_normalised_image(optimize: Command, all_runs: Runs) -> None:
    """With the image almost found, both protocols must score it high, though their targets are far apart."""
    for protocol in ("image", "published"):
        assert optimize(protocol=protocol, steps=150, lr=0.1, test_limit=1).code == 0
    assert {run.data.tags["inversion.protocol"] for run in all_runs()} == {"image", "published"}
    assert all(run.data.metrics["test/psnr"] > 25 for run in all_runs())


@pytest.mark.parametrize(("name", "value", "words"), [
    ("decoder", "wavelet", "decoder belongs to training a decoder"),
    ("epochs", 3, "epochs belongs to training a decoder"),
    ("fusion", "concat", "fusion belongs to training a decoder"),
    ("steps", 0, "steps: '0' is not allowed"),
    ("encoder", "vgg61", "Did you mean 'vgg16'?"),
])
def test_a_wrong_request_is_one_line_and_starts_nothing(name: str, value: object, words: str, optimize: Command,
                                                        all_runs: Runs) -> None:
    assert words in refused(optimize(**{name: value}))
    assert all_runs() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_as_killed(number: signal.Signals, optimize: Command, all_runs: Runs,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(encoders: Any, images: Any, start: Any, settings: Any, on_step: Callable[[int], None],
                    *features: Any) -> Inverted:
        def told(step: int) -> None:
            if step == 2:
                os.kill(os.getpid(), number)
            on_step(step)
            assert step < 4, "it went on"

        return invert(encoders, images, start, settings, told, *features)

    monkeypatch.setattr("inversion.runs.optimize.invert", interrupted)
    outcome = optimize()
    assert outcome.code == 130
    run = only(all_runs())
    assert (run.info.status, run.data.tags["inversion.failure"]) == ("KILLED", "interrupted")
    assert run.data.tags["inversion.failure_message"] == f"stopped while optimising: {number.name} received"
    assert "test/psnr" not in run.data.metrics


def test_numbers_that_are_not_finite_fail_the_run(optimize: Command, all_runs: Runs,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inversion.runs.optimize.starting_noise", lambda indices, size, seed: torch.full(
        (len(indices), 3, size, size), torch.nan))
    assert optimize().code == 1
    run = only(all_runs())
    assert (run.info.status, run.data.tags["inversion.failure"]) == ("FAILED", "nonfinite")
